"""Shapes that an experiment expects: refused if no cell can have them, and judged by the measured medians."""

import json
from pathlib import Path

import pytest
from browsing import CHROMIUM, LACKING, shown
from click.testing import CliRunner

from atoll.cli.group import cli
from atoll.errors import AtollError
from atoll.experiment import report
from atoll.experiment.document import parse_experiment
from atoll.experiment.run import create
from atoll.experiment.runner import execute
from atoll.experiment.samples import Sample
from atoll.experiment.shape_report import judged
from atoll.experiment.sweep import cells

TEXT = """\
name: shaped
repetitions: 1
architectures: [{kind: centralised, sites: 2}, {kind: cooperative, sites: 2}]
links: [{delay: [0ms, 50ms]}, {delay: 10ms, loss: 1%}]
workloads: {boot: {times: 2}}
expect:
- {operation: boot, users: compute, where: {architecture: centralised}, round_trips: [40, 80]}
- {operation: boot, where: {architecture: cooperative}, flat: 5%}
"""


def make_run(base, trips, expect=None):
    """Return a run in which operations at compute sites take a number of round trips."""
    experiment = parse_experiment(TEXT, "x.yaml")
    shapes = [shape.model_dump(exclude_none=True) for shape in experiment.expect]
    about = {"name": "shaped", "seed": 0, "machine": {}, "expect": shapes if expect is None else expect}
    run = create(base, json.loads(json.dumps(about)), cells(experiment, Path()), TEXT)

    def ground(cell, record, _say):
        rtt_s = 2 * float(cell.factors["delay"].removesuffix("ms")) / 1000
        for site in cell.cloud["sites"]:
            latency = 1 + (trips * rtt_s if site.get("kind") == "compute" else 0)
            record(Sample("boot", site["name"], 0, 0, latency))
        return {}

    execute(run, ground, lambda _text: None)
    return run


def checked(run):
    words = ["experiment", "--runs", str(run.directory.parent), "check", run.name, "--json"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    return done.return_value, [(each["measured"], each["holds"]) for each in json.loads(done.stdout)]


def test_shapes_that_hold(tmp_path):
    run = make_run(tmp_path, 60)
    assert checked(run) == (0, [("60.00 round trips", True), ("0.0 %", True)]), "links with a loss have one delay, so no shape"
    page = report.render(run)
    assert "<h2>Expected shapes</h2>" in page
    assert "boot, users at compute sites, architecture centralised: grows by 40 to 80 round trips" in page
    assert "compared lines" not in page


@pytest.mark.skipif(CHROMIUM is None, reason=LACKING)
def test_the_page_with_shapes_is_shown_in_a_browser(tmp_path):
    assert shown(report.render(make_run(tmp_path, 60)), tmp_path)["wide"] <= 1280


def test_a_shape_that_does_not_hold(tmp_path):
    run = make_run(tmp_path, 8)
    assert checked(run) == (1, [("8.00 round trips", False), ("0.0 %", True)])
    assert '<p class="bad">1 of 2 compared lines does not have the shape.</p>' in report.render(run)


def test_a_shape_of_an_operation_that_did_not_happen(tmp_path):
    run = make_run(tmp_path, 60, [{"operation": "delete", "flat": "5%"}])
    assert checked(run) == (1, [("fewer than two round trips were measured", None)])


def test_without_shapes_nothing_is_told(tmp_path):
    run = make_run(tmp_path, 60, [])
    assert checked(run) == (0, [])
    assert "Expected shapes" not in report.render(run)


def test_growth_is_that_of_the_greatest_median(tmp_path):
    run = make_run(tmp_path, 1, [{"operation": "boot", "users": "compute", "flat": "9.9%"}])
    assert checked(run) == (1, [("10.0 %", False)])


def test_lines_are_named_by_the_factors_that_vary(tmp_path):
    run = make_run(tmp_path, 60, [{"operation": "boot", "round_trips": [-1, 61]}])
    assert [verdict.line for verdict in judged(run)] == [
        "architecture centralised, users at compute sites",
        "architecture centralised, users at full sites",
        "architecture cooperative",
    ]


@pytest.mark.parametrize(
    ("shape", "line", "expected"),
    [
        ("{operation: boot}", 7, "expected either `flat` or `round_trips`"),
        ("{operation: boot, flat: 5%, round_trips: [1, 2]}", 7, "expected either `flat` or `round_trips`"),
        ("{operation: boot, flat: much}", 7, "expected a percentage such as 5%, got the text"),
        ("{operation: boot, round_trips: [2, 1]}", 7, "the smaller one first"),
        ("{operation: boot, flat: 5%, where: {architecture: regions}}", 7, "no cell has architecture regions: expected one of centralised"),
        ("{operation: boot, flat: 5%, where: {colour: red}}", 7, "no cell has a factor colour: expected one of architecture"),
        ("{operation: boot, flat: 5%, users: here}", 7, "expected `full` or `compute`"),
        ("{flat: 5%}", 7, "the name of an operation"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_line(shape, line, expected):
    text = TEXT[: TEXT.index("expect:")] + f"expect:\n- {shape}\n"
    with pytest.raises(AtollError) as raised:
        parse_experiment(text, "x.yaml")
    assert raised.value.kind.code == "experiment.invalid"
    assert raised.value.message.startswith(f"x.yaml:{line}:"), raised.value.message
    assert expected in raised.value.message


def test_a_shape_without_several_delays_is_refused():
    with pytest.raises(AtollError, match="a shape needs several delays of links"):
        parse_experiment(TEXT.replace("[0ms, 50ms]", "10ms").replace(", {delay: 10ms, loss: 1%}", ""), "x.yaml")
