"""The faults of a run: kept in Parquet, told in the report with marks, and counted before, during and after."""

import base64
import re
from pathlib import Path

import pytest
from browsing import CHROMIUM, LACKING, shown

from atoll.experiment import report
from atoll.experiment.document import parse_experiment
from atoll.experiment.phases import phase_of, phases
from atoll.experiment.run import create, load
from atoll.experiment.runner import execute
from atoll.experiment.samples import FaultEvent, Sample
from atoll.experiment.statistics import share_interval
from atoll.experiment.sweep import cells

TEXT = """\
name: cut
repetitions: 2
architectures: [{kind: cooperative, sites: 2}]
links: [{delay: 25ms}]
faults:
- name: none
- name: cut
  steps: [{kind: cut, target: site-2, at: 20s, lasts: 60s}]
workloads: {open-load: {operation: list, seconds: 100}}
"""
EVENT = FaultEvent(1, "cut", "site-2", "at 20s", 20.1, 20.2, 80.2, 80.3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run in which a cut site serves nothing, and another site everything."""
    experiment = parse_experiment(TEXT, "x.yaml")
    made = create(tmp_path_factory.mktemp("runs"), {"name": "cut", "seed": 0, "machine": {}}, cells(experiment, Path()), TEXT)

    def run_cell(cell, record, _say):
        if cell.faults:
            record(EVENT)
        for site in ("site-1", "site-2"):
            for at in range(100):
                served = not (cell.faults and site == "site-2" and 20.1 <= at < 80.3)
                record(Sample("list", site, at, at, at + (0.1 if served else 10), served, "" if served else "TimeoutError"))
        return {}

    execute(made, run_cell, lambda _text: None)
    return load(made.directory)


def test_faults_are_kept_beside_the_samples(run):
    for cell in run.cells:
        assert run.faults(cell) == ([EVENT] if cell.faults else [])
        assert (run.directory / "faults" / f"{cell.id}.parquet").exists() == bool(cell.faults)
        assert len(run.samples(cell)) == 200
    assert {state.facts["samples"] for state in run.states().values()} == {200}


def test_operations_are_counted_before_during_and_after(run):
    found = {(each.users, each.phase): (each.operations, each.failures, len(each.latencies_s)) for each in phases(run)}
    assert found == {
        ("concerned", "before"): (42, 0, 2),
        ("concerned", "during"): (120, 120, 0),
        ("concerned", "after"): (38, 0, 2),
        ("elsewhere", "before"): (42, 0, 2),
        ("elsewhere", "during"): (120, 0, 2),
        ("elsewhere", "after"): (38, 0, 2),
    }


def test_a_time_between_two_faults_is_after_the_first():
    later = EVENT._replace(started_s=90, ended_s=95)
    assert [phase_of(at, [EVENT, later]) for at in (1, 50, 85, 92, 99)] == ["before", "during", "after", "during", "after"]


def test_the_page_marks_the_faults(run):
    page = report.render(run)
    captions = re.findall(r"<figcaption>(Time-line[^<]*)", page)
    assert all(caption.startswith("Time-line: cooperative, sites 2, delay 25ms, open-load, operation list") for caption in captions)
    assert [caption.rpartition(", faults ")[2] for caption in captions] == ["cut, repetition 1", "none, repetition 1"]
    pictures = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]*)", page)]
    timeline, unharmed = [picture for picture in pictures if "latency from the" in picture]
    assert "fault 1: cut site-2" in timeline
    assert "fault" not in unharmed
    assert "operations" in timeline
    assert "failed (n=60)" in timeline
    assert "<td>list</td><td>concerned</td><td>during</td>" in page
    assert ">0.0 %<" in page
    assert ">20.200</td>" in page


@pytest.mark.skipif(CHROMIUM is None, reason=LACKING)
def test_the_page_with_faults_is_shown_in_a_browser(run, tmp_path):
    told = shown(report.render(run), tmp_path)
    assert told["images"] == 1 + 2, "a distribution, and a time-line with and without the fault"
    assert told["wide"] <= 1280


def test_a_run_without_faults_tells_of_none(tmp_path):
    experiment = parse_experiment(TEXT[: TEXT.index("faults:")] + TEXT[TEXT.index("workloads:") :], "x.yaml")
    made = create(tmp_path, {"name": "cut", "seed": 0, "machine": {}}, cells(experiment, Path()), TEXT)
    execute(made, lambda _cell, record, _say: record(Sample("list", "site-1", 0, 0, 1)) or {}, lambda _text: None)
    assert phases(made) == []
    assert "Faults" not in report.render(made)


@pytest.mark.parametrize(("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)])
def test_intervals_of_shares(count, of, low, high):
    assert share_interval(count, of) == pytest.approx((low, high), abs=1e-4)
