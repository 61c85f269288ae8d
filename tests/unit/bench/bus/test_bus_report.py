from pathlib import Path

import pytest

from atoll.bench.bus.accounting import Account
from atoll.bench.bus.loss import LossOutcome
from atoll.bench.bus.report import KEYS, WANTED, Wanted, rows, summary, targets


def samples(**changed):
    names = [f"{key.name}_{count}" for key in KEYS for count in (1, 100)]
    ours = {name: [1.0, 3.0, 2.0] for name in names} | {name: [value] for name, value in changed.items()}
    return {"zenoh": ours, "rabbit": {name: [4.0, 4.0, 40.0] for name in names}}


def test_medians_and_ratios():
    report = summary(samples())
    assert report["zenoh"]["p99_ms_100"] == 2.0
    assert report["rabbit"]["p99_ms_100"] == 4.0
    assert report["ratios"]["p99_ms_100"] == 0.5
    assert report["samples"]["zenoh"]["p99_ms_100"] == [1.0, 3.0, 2.0]


def test_targets_are_told_of_what_was_measured():
    report = summary(samples(calls_per_s_100=12.0, p50_ms_1=1.001, memory_mb_1=0.4))
    assert report["targets"] == {
        "p50_ms_1": {"wanted": "at most 1", "value": 1.001, "met": False},
        "calls_per_s_100": {"wanted": "at least 3 times", "value": 3.0, "met": True},
        "memory_mb_1": {"wanted": "at most 0.1 times", "value": 0.1, "met": True},
        "memory_mb_100": {"wanted": "at most 0.1 times", "value": 0.5, "met": False},
    }


def test_alone_there_is_nothing_to_compare_with():
    report = summary({"zenoh": samples()["zenoh"]})
    assert report["ratios"] == {}
    assert list(report["targets"]) == ["p50_ms_1"]
    assert rows(report, [1, 100])[0] == ("1", "calls per second", "2.00", "", "", "")


def test_rows():
    table = rows(summary(samples(calls_per_s_100=8.0)), [1, 100])
    assert len(table) == 2 * len(KEYS)
    assert ("100", "calls per second", "8.00", "4.00", "2.00", "at least 3 times: missed") in table


@pytest.mark.parametrize(
    ("wanted", "value", "met"),
    [(Wanted(at_least=3), 3, True), (Wanted(at_least=3), 2.9, False), (Wanted(at_most=1), 1, True), (Wanted(at_most=1), 1.1, False)],
)
def test_bounds_belong_to_what_is_wanted(wanted, value, met):
    assert wanted.met(value) is met


def test_nothing_is_wanted_of_what_is_not_measured():
    names = {key.name for key in KEYS}
    assert {name.rpartition("_")[0] for name in WANTED} <= names
    assert targets({}, {}) == {}


OUTCOME = LossOutcome(Account(10, 1, 2, 0, 3, 0), restarts_term=4, restarts_kill=5, seconds=2.0, errors={"OSError": 1})


def test_outcome():
    data = OUTCOME.to_json()
    assert (data["acknowledged"], data["casts_per_s"], data["restarts_kill"], data["errors"]) == (10, 5.0, 5, {"OSError": 1})
    assert OUTCOME.bad == ["lost: 2", "executed_twice: 3"]
    assert LossOutcome(Account(10, 1, 0, 1, 0, 1), 0, 0, 1.0).bad == []


@pytest.mark.parametrize("name", [*(f"{key.name}_N" for key in KEYS), "targets", *OUTCOME.to_json()])
def test_every_key_of_the_bus_is_documented(name):
    page = Path(__file__).parents[4] / "docs/reference/measurements.md"
    assert f"`{name}`" in page.read_text(encoding="utf-8")
