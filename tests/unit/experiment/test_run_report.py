"""The report of a run: whole without a network, and shown by a real browser without a message on its console."""

import base64
import random
import re
from xml.etree import ElementTree

import pytest
from browsing import CHROMIUM, LACKING, shown
from hypothesis import given
from hypothesis import strategies as st
from made_runs import TEXT, make_run
from matplotlib.figure import Figure

from atoll.errors import AtollError
from atoll.experiment import plots, report, resource_report
from atoll.experiment.document import parse_experiment
from atoll.experiment.resource_plots import totals
from atoll.experiment.run import Run, create
from atoll.experiment.runner import execute
from atoll.experiment.samples import Sample
from atoll.experiment.statistics import median_interval, quantile
from atoll.experiment.summary import groups
from atoll.experiment.sweep import cells


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(run):
    return report.render(run)


def test_the_head_has_the_day_in_words_that_can_be_read(page):
    assert re.search(r"begun \d{4}-\d\d-\d\d \d\d:\d\d UTC, seed 1\.", page)


def test_reasons_of_failures_are_counted(run, page):
    section = page.split("<h2>Failed operations</h2>")[1].split("</table>")[0]
    assert "The 20 most frequent of" in section
    assert section.count("HTTP 500") == 20
    assert "Failed operations" not in report.render(make_run_without_failures(run))


def make_run_without_failures(run):
    """Return a view of a run that has no failed operations."""
    return Good(run.directory, run.about, run.cells)


class Good(Run):
    def samples(self, cell):
        return [sample for sample in super().samples(cell) if sample.ok]


def test_marks_at_the_greatest_value_are_whole():
    axes = Figure().subplots()
    axes.plot([0, 0], [5.0, 5.0], "x")
    plots.from_zero(axes)
    assert axes.get_ylim() == (0, pytest.approx(5.4))
    axes = Figure().subplots()
    plots.from_zero(axes)
    assert axes.get_ylim()[0] == 0


def test_a_single_line_has_no_legend(run):
    (group, *_others) = groups(run).values()
    assert "(n=" in plots.distributions("x", [("all", group)])
    line = {"all": [group]}
    assert ">all<" not in plots.against("x", plots.QUANTITIES["delay"], line)
    assert ">near<" in plots.against("x", plots.QUANTITIES["delay"], {"near": [group]})


@pytest.mark.parametrize(("most", "labels"), [(1.0, ["0.05", "0.1", "0.2", "0.5", "1"]), (100.0, ["0.1", "1", "10", "100"])])
def test_logarithmic_axes_have_plain_numbers(most, labels):
    axes = Figure().subplots()
    axes.plot([0.04, most], [1, 2])
    plots.logarithmic(axes, "x", [0.04, most])
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    shown = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert shown == labels
    assert all(not label.get_text() for label in axes.get_xticklabels(minor=True))


def test_bars_have_whole_numbers():
    picture = totals([("a", 1.234, 2609.0), ("b", 0.5, 12.0)])
    assert ">2,609<" in picture
    assert ">1.23<" in picture


def test_the_page_needs_no_network(page):
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert len(page) < 3_000_000


def test_each_operation_has_its_plots_and_its_row(page):
    captions = re.findall(r"<figcaption>([^<]*)", page)
    assert captions[:8] == [
        f"{caption}: {operation}{part}"
        for operation in ("boot", "token")
        for caption, part in (
            ("Median latency against the round trip, with its 95 % interval", ""),
            ("Median latency against the number of sites, with its 95 % interval", ""),
            ("Distribution of latencies", ", part 1"),
            ("Distribution of latencies", ", part 2"),
        )
    ]
    assert [caption.partition(":")[0] for caption in captions[8:20]] == ["Time-line"] * resource_report.MOST_TIMELINES
    assert captions[20:] == [
        "idle traffic against the round trip; bars reach from the smallest to the greatest number",
        "idle traffic against the number of sites; bars reach from the smallest to the greatest number",
        "Traffic of all links in a cell, on average",
    ]
    assert "12 of 24 combinations are shown; the exported data have all of them." in page
    rows = re.findall(r"<tr><td>(boot|token)</td><td>([^<]*)</td><td>([^<]*)</td>", page.split("<h2>All operations</h2>")[1])
    assert len(rows) == 2 * 4 * (2 + 1 + 1)  # users of a centralised cloud are at sites of two kinds
    assert ("boot", "compute", "architecture centralised, sites 3, delay 100ms, times 5, order together") in rows


def test_medians_and_their_intervals_are_those_of_the_samples(page):
    row = re.search(
        r"<tr><td>boot</td><td>compute</td><td>architecture centralised, sites 3, delay 100ms, times 5, order together</td>(.*?)</tr>", page
    )[1]
    database, flush, cells, done, failed, median, interval, high, longest = re.findall(r"<td[^>]*>([^<]*)</td>", row)
    assert (database, flush) == ("sqlite", "unknown")
    assert (cells, done, failed) == ("3", "114", "6")
    low, above = map(float, interval.split(" to "))
    assert low < 0.9 + 60 * 0.2 < above
    assert low < float(median) < above < float(high) < float(longest)


def test_delays_are_in_the_order_of_their_values(page):
    rows = re.findall(r"<tr><td>boot</td><td>all sites</td><td>architecture cooperative, sites 3, delay (\d+)ms", page)
    assert rows == ["0", "25", "50", "100"]


def test_plots_are_whole_and_name_their_lines(page):
    images = [base64.b64decode(data).decode() for data in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)]
    assert len(images) == 23
    for image in images:
        ElementTree.fromstring(image)
    assert all("latency" in image for image in images[:8])
    assert "centralised, sites 3, users at compute sites" in images[0]
    assert "cooperative, sites 5, delay 25ms" in images[2] + images[3]
    for text in ("operations", "packets/s", "kB/s", "cores", "memory", "site-2 to site-1", "site-3"):
        assert text in images[8], text
    assert "bit/s" in images[20]


def test_totals_of_links_and_sites_are_those_of_the_readings(page):
    """20 s of 10 packets with 100 bytes each per second and sender, and of half a core at each site."""
    links = re.findall(r"<td>cooperative, sites 3, delay 0ms, boot[^<]*</td><td>([^<]*)</td>" + 4 * '<td class="n">([^<]*)</td>', page)
    assert links[:3] == [
        ("site-2 to site-1", "0.02", "200", "20", "0.351"),
        ("site-3 to site-1", "0.02", "200", "20", "0.351"),
        ("all links", "0.04", "400", "40", "0.702"),
    ]
    sites = re.findall(
        r"<td>cooperative, sites 3, delay 0ms, boot[^<]*</td><td>(site-\d)</td>" + 3 * '<td class="n">([^<]*)</td>' + "</tr>", page
    )
    assert ("site-1", "10.00", "0.500", "420") in sites
    assert "Readings were taken every 1 s, those of memory less often. The sampler itself used 2.0 % of a core on average" in page


def test_measured_numbers_have_a_row_with_their_range(page):
    assert re.search(r'<td>idle traffic</td><td>cooperative, sites 5, delay 50ms</td><td class="n">3</td><td class="n">502</td>'
                     r'<td class="n">501</td><td class="n">503</td><td>bit/s</td>', page)  # fmt: skip


def test_changes_since_another_run_are_told_in_words(run, tmp_path):
    slower = make_run(tmp_path, slower=1.2, seed=1)
    text = report.render(slower, run)
    assert f"<h2>Changes since {run.name}</h2>" in text
    assert re.search(r"<li>boot at compute sites \(centralised, sites 3, delay 0ms, boot, times 5, order together\): \d+ % slower", text)
    equal = report.render(make_run(tmp_path, seed=2), run)
    assert "32 of 32 compared operations show no difference at a confidence level of 99 %." in equal


def test_failed_cells_and_strange_texts_are_shown_as_they_are(tmp_path):
    text = report.render(make_run(tmp_path, fails={"0001"}))
    assert "<b>no</b>" not in text
    assert "ValueError: &lt;b&gt;no&lt;/b&gt; site came up" in text
    assert '<p class="bad">71 of 72 cells are complete, 1 failed.</p>' in text


def test_a_run_that_has_not_begun_has_a_page(run, tmp_path):
    text = report.render(create(tmp_path, run.about, run.cells))
    assert "There are no samples yet." in text


def test_a_missing_library_is_told(run, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(plots, "import_module", missing)
    with pytest.raises(AtollError, match="a report needs the Python package matplotlib") as raised:
        report.render(run)
    assert raised.value.kind.code == "experiment.requirement"


def test_without_a_sweep_of_delays_nothing_is_drawn_against_them(tmp_path):
    text = TEXT.replace("[0ms, 25ms, 50ms, 100ms]", "25ms").replace("[3, 5]", "3").replace("  token: {times: 20}\n", "")
    captions = re.findall(r"<figcaption>([^<]*)", report.render(make_run(tmp_path, text=text)))
    assert [caption for caption in captions if "latenc" in caption] == ["Distribution of latencies: boot"]


@pytest.mark.skipif(CHROMIUM is None, reason=LACKING)
def test_it_is_shown_in_a_browser(page, tmp_path):
    told = shown(page, tmp_path)
    assert (told["tables"], told["images"]) == (7, 23)
    assert told["wide"] <= 1280, "nothing is cut off at the right"


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_lie_between_the_values(values, share):
    assert min(values) <= quantile(values, share) <= max(values)
    assert quantile(values, 0) == min(values)
    assert quantile(values, 1) == max(values)


@pytest.mark.parametrize(("values", "expected"), [([1, 2, 3], 2), ([1, 2, 3, 4], 2.5), ([7], 7)])
def test_the_middle_quantile_is_the_median(values, expected):
    assert quantile(values, 0.5) == expected


def test_intervals_hold_the_median_as_often_as_they_should():
    chance = random.Random(1)
    held = 0
    for _ in range(400):
        low, high = median_interval([[chance.expovariate(1) for _ in range(30)] for _ in range(3)])
        held += low <= 0.6931 <= high
    assert held >= 0.94 * 400


def test_few_values_have_no_interval():
    assert median_interval([]) is None
    assert median_interval([[1.0, 2.0, 3.0]]) is None


def test_latencies_are_drawn_against_losses_in_the_order_of_their_values(tmp_path):
    text = TEXT.replace("links: [{delay: [0ms, 25ms, 50ms, 100ms]}]", "links: [{delay: 25ms, loss: [25%, 0.1%, 10%]}]")
    made = make_run(tmp_path, text=text)
    captions = re.findall(r"<figcaption>([^<]*)", report.render(made))
    assert "Median latency against the loss, with its 95 % interval: boot" in captions
    assert not any("round trip" in caption for caption in captions), "the delay does not vary"
    values = sorted({plots.QUANTITIES["loss"].value(group.factors) for group in groups(made).values()})
    assert values == pytest.approx([0.1, 10, 25])


def test_single_durations_have_neither_a_distribution_nor_a_time_line(tmp_path):
    experiment = parse_experiment(
        "name: members\nrepetitions: 1\narchitectures: [{kind: hollow, sites: [10, 20]}]\nworkloads: {membership: {}}\n", "x.yaml"
    )
    run = create(tmp_path, {"name": "members", "seed": 0, "machine": {}}, cells(experiment, tmp_path))
    execute(run, lambda _cell, record, _say: record(Sample("converge", "site-1", 0, 0, 2)) or {}, lambda _text: None)
    captions = re.findall(r"<figcaption>([^<]*)", report.render(run))
    assert captions == ["Median latency against the number of sites, with its 95 % interval: converge, of workload membership"]
