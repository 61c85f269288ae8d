"""Totals and rates of links, processors and memory: differences of counters, from the start of the measured operations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.experiment.plots import MOST_LINES
from atoll.experiment.resources import (
    LinkTotal,
    SiteTotal,
    cpu_curves,
    link_totals,
    memory_curves,
    site_totals,
    throughput_curves,
    traffic_curves,
)
from atoll.experiment.samples import Sample, TrafficReading, UsageReading
from atoll.experiment.timeline_plots import Recorded, fewest, timeline

TRAFFIC = [
    TrafficReading(-3, "a", "b", 0, 0, 0),
    TrafficReading(-3, "b", "a", 0, 0, 0),
    TrafficReading(0.01, "a", "b", 50, 5000, 2),
    TrafficReading(0.01, "b", "a", 7, 70, 0),
    TrafficReading(10.01, "a", "b", 150, 25000, 12),
    TrafficReading(10.01, "b", "a", 7, 70, 0),
]
USAGE = [
    UsageReading(-3, "a", 0, 6, 900.0),
    UsageReading(0.01, "a", 2, 6, 400.0),
    UsageReading(5.01, "a", 4, 6),
    UsageReading(10.01, "a", 9, 6, 430.0),
]


def test_totals_leave_out_everything_before_the_operations():
    assert link_totals(TRAFFIC) == {("a", "b"): LinkTotal(100, 20000, 10), ("b", "a"): LinkTotal(0, 0, 0)}
    assert site_totals(USAGE) == {"a": SiteTotal(7, 10, 430.0)}
    assert site_totals([USAGE[2]]) == {"a": SiteTotal(0, 0, None)}
    assert link_totals([]) == {}


def test_rates_are_at_the_end_of_their_interval():
    assert traffic_curves(TRAFFIC, "bytes") == {
        "a to b": [(0.01, pytest.approx(5000 / 3.01)), (10.01, 2000.0)],
        "b to a": [(0.01, pytest.approx(70 / 3.01)), (10.01, 0.0)],
    }
    assert traffic_curves(TRAFFIC, "dropped").keys() == {"a to b"}, "a line without anything is left out"
    assert cpu_curves(USAGE)["a"][1:] == [(5.01, 0.4), (10.01, 1.0)]
    assert memory_curves(USAGE) == {"a": [(-3, 900.0), (0.01, 400.0), (10.01, 430.0)]}


@given(st.lists(st.tuples(st.floats(0, 500), st.booleans()), max_size=50))
def test_throughput_counts_every_operation_once(ends):
    samples = [Sample("list", "a", at, at, at, ok) for at, ok in ends]
    curves = throughput_curves(samples)
    assert set(curves) == {"list" if ok else "failed" for _at, ok in ends}
    for label, points in curves.items():
        width_s = max(1.0, max(at for at, _ok in ends) / 60)
        assert len(points) <= 62
        assert points[-1][1] == points[-2][1]
        assert sum(rate * width_s for _at, rate in points[:-1]) == pytest.approx(
            sum(label == ("list" if ok else "failed") for _at, ok in ends)
        )


def test_the_busiest_lines_are_kept_and_the_others_summed():
    curves = {f"link {number}": [(1.0, float(number)), (2.0, 1.0)] for number in range(20)}
    found = fewest(curves)
    assert len(found) == MOST_LINES
    assert "link 19" in found
    assert "link 0" not in found
    assert found["sum of 13 others"] == [(1.0, sum(range(13))), (2.0, 13.0)]
    assert fewest({"one": [(1, 1)]}) == {"one": [(1, 1)]}


def test_a_cell_has_a_panel_for_each_kind_of_data():
    samples = [Sample("list", f"site-{number}", number, number, number + 0.1) for number in range(MOST_LINES + 1)]
    whole = timeline("cell", Recorded(samples, [], USAGE, TRAFFIC))
    assert all(text in whole for text in ("latency from the", "per second", "kB/s", "packets/s", "cores", "MB"))
    assert "list, site-1" not in whole, "too many sites: a line for each operation"
    some = timeline("cell", Recorded(samples[:2]))
    assert "list, site-1" in some
    assert "cores" not in some


def test_many_marks_become_an_image():
    many = [Sample("list", "a", number, number, number + 0.1) for number in range(3000)]
    assert len(timeline("cell", Recorded(many))) < 200_000
