"""Faults of an experiment's file: a wrong one is refused with its line before anything starts; scenarios are swept."""

import json
from pathlib import Path

import pytest
from refusals import refusal

from atoll.bench.cell_faults.kinds import DISK_KINDS
from atoll.bench.cell_faults.kinds import KINDS as RUNNABLE
from atoll.bench.cell_faults.step import FaultStep as RunnableStep
from atoll.experiment.document import parse_experiment
from atoll.experiment.estimate import seconds
from atoll.experiment.faults import KINDS, ON_DISK
from atoll.experiment.sweep import cells

TEXT = """\
name: small
repetitions: 2
architectures:
- {kind: cooperative, sites: 3}
- {kind: centralised, sites: 2}
links: [{delay: 25ms}]
faults:
- name: none
- name: cut
  steps:
  - {kind: cut, target: site-2, at: 20s, lasts: 1min}
workloads: {list: {times: 3}}
"""
STEP = "{kind: cut, target: site-2, at: 20s, lasts: 1min}"
POINT = "{kind: cut, target: site-2, when: {span: compute build_and_run_instance, service: nova, site: site-1, number: 2}}"


def complaint(text):
    return refusal("experiment.invalid", parse_experiment, text, "x.yaml")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            "{kind: cuts, target: site-2, at: 1s}",
            "faults[1].steps[0].kind: expected `cut`, `degrade`, `loss`, `kill`, `restart`, `clock`, ",
        ),
        ("{kind: cut, target: site-2, at: 20}", "faults[1].steps[0].at: expected a time from 0 to 24h"),
        ("{kind: cut, target: site-2, at: 20s, last: 1s}", "faults[1].steps[0]: unknown key `last` (did you mean `lasts`?)"),
        ("{kind: cut, target: site-2}", "faults[1].steps[0]: expected either `at` or `when`"),
        ("{kind: cut, target: site-2, at: 1s, when: {span: x}}", "faults[1].steps[0]: expected either `at` or `when`"),
        ("{kind: cut, target: site-2, at: 1s, loss: 1%}", "faults[1].steps[0]: cut has no `loss`"),
        ("{kind: loss, target: site-2, at: 1s}", "faults[1].steps[0]: loss needs `loss`"),
        ("{kind: degrade, target: site-2, at: 1s}", "faults[1].steps[0]: degrade needs `delay` or `jitter` or `rate` or `loss`"),
        ("{kind: clock, target: site-2, at: 1s}", "faults[1].steps[0]: clock needs `ahead`"),
        ("{kind: clock, target: site-2, at: 1s, ahead: soon}", "faults[1].steps[0].ahead: expected a time of up to 24h"),
        (
            "{kind: clock, target: 'site-1:site-2', at: 1s, ahead: 5s}",
            "faults[1].steps[0]: clock of a link (site-1:site-2): expected a",
        ),
        ("{kind: cut, target: site-1/nova, at: 1s}", "faults[1].steps[0]: cut of a process (site-1/nova): expected a link or a site"),
        (
            "{kind: kill, target: site-1/nova, at: 1s, lasts: 1s}",
            "faults[1].steps[0]: a process is started again at once: expected no",
        ),
        ("{kind: power-cut, target: site-1/nova, at: 1s}", "faults[1].steps[0]: power-cut of a process (site-1/nova): expected a site"),
        ("{kind: full-disk, target: 'site-1:site-2', at: 1s}", "faults[1].steps[0]: full-disk of a link (site-1:site-2): expected a site"),
        ("{kind: power-cut, target: site-3, at: 1s}", "faults[1].steps[0].target: centralised with sites: 2 has no site site-3: expected"),
        ("{kind: cut, target: site-9, at: 1s}", "faults[1].steps[0].target: cooperative with sites: 3 has no site site-9: expected one of"),
        ("{kind: cut, target: site-3, at: 1s}", "faults[1].steps[0].target: centralised with sites: 2 has no site site-3: expected one of"),
        ("{kind: cut, target: 'site-2:site-3', at: 1s}", "faults[1].steps[0].target: centralised with sites: 2 has no link site-2:site-3"),
        ("{kind: kill, target: site-2/nova, at: 1s}", "faults[1].steps[0].target: centralised with sites: 2 has no process site-2/nova"),
        ("{kind: cut, target: site-2, when: {site: site-1}}", "faults[1].steps[0].when: `span` is missing: expected the name of a span"),
        ("{kind: cut, target: site-2, when: {span: x, edge: top}}", "faults[1].steps[0].when.edge: expected `start` or `end`"),
        ("{kind: cut, target: site-2, when: {span: x, site: far}}", "faults[1].steps[0].when: cooperative with sites: 3 has no site far"),
    ],
    ids=lambda text: text[:70],
)
def test_a_wrong_fault_is_refused_with_its_line(step, expected):
    assert complaint(TEXT.replace(STEP, step)).startswith(f"x.yaml:11: {expected}")


def test_a_second_scenario_of_a_name_is_refused():
    assert complaint(TEXT.replace("name: none", "name: cut")).startswith("x.yaml:9: faults[1].name: a second scenario cut")


def test_a_link_may_be_named_from_either_end():
    for target in ("site-1:site-2", "site-2:site-1"):
        assert parse_experiment(TEXT.replace(STEP, f"{{kind: cut, target: '{target}', at: 1s}}"), "x")


def test_scenarios_are_swept():
    experiment = parse_experiment(TEXT, "x")
    made = cells(experiment, Path())
    assert experiment.count == len(made) == 2 * 2 * 2
    assert {(cell.factors["faults"], len(cell.faults)) for cell in made} == {("none", 0), ("cut", 1)}
    (step,) = next(cell.faults for cell in made if cell.faults)
    assert step == {
        "kind": "cut", "target": "site-2", "cause": "at 20s", "at_s": 20.0, "when": None, "lasts_s": 60.0, "changes": {}, "ahead_s": 0.0,
    }  # fmt: skip
    assert all("trace" not in cell.cloud for cell in made)


def test_a_point_of_a_workflow_has_all_cells_traced():
    made = cells(parse_experiment(TEXT.replace(STEP, POINT), "x"), Path())
    assert {cell.cloud["trace"]["sample"] for cell in made} == {1.0}, "cells with and without the fault are comparable"
    (step,) = next(cell.faults for cell in made if cell.faults)
    assert step["cause"] == "start of compute build_and_run_instance in nova of site-1, occurrence 2"


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        ("{kind: degrade, target: site-2, at: 1s, delay: 80ms, rate: 1mbit}", "changes", {"delay_ms": 80.0, "rate_mbit": 1.0}),
        ("{kind: loss, target: site-2, at: 1s, loss: 25%}", "changes", {"loss": 0.25}),
        ("{kind: clock, target: site-2, at: 1s, ahead: -5min}", "ahead_s", -300.0),
    ],
    ids=lambda text: str(text)[:30],
)
def test_the_cell_has_numbers_that_the_ground_understands(step, name, value):
    made = cells(parse_experiment(TEXT.replace(STEP, step), "x"), Path())
    (data,) = json.loads(json.dumps(next(cell.faults for cell in made if cell.faults)))
    assert getattr(RunnableStep.from_json(1, data), name) == value


@pytest.mark.parametrize("moment", ["at: 1s", "when: {span: x, service: nova, site: site-1, edge: end}"], ids=["time", "span"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_happens_at_a_time_or_at_a_named_span(kind, moment):
    needed = {"degrade": ", delay: 50ms", "loss": ", loss: 10%", "clock": ", ahead: 5min"}.get(kind, "")
    step = f"{{kind: {kind}, target: site-2, {moment}{needed}, lasts: 5s}}"
    (data,) = next(cell.faults for cell in cells(parse_experiment(TEXT.replace(STEP, step), "x"), Path()) if cell.faults)
    runnable = RunnableStep.from_json(1, data)
    assert (runnable.at_s is None) == (runnable.when is not None) == ("when" in moment)
    assert runnable.lasts_s == 5


def test_each_kind_of_files_can_be_injected():
    assert set(KINDS) == set(RUNNABLE)


def test_killed_sites_take_time():
    killed = TEXT.replace(STEP, "{kind: kill, target: site-2, at: 1s}")
    assert seconds(cells(parse_experiment(killed, "x"), Path())) > seconds(cells(parse_experiment(TEXT, "x"), Path()))


def test_both_sides_agree_on_the_faults_of_disks():
    assert ON_DISK == DISK_KINDS


@pytest.mark.parametrize("kind", sorted(ON_DISK))
def test_a_disk_without_the_databases_has_no_fault(kind):
    text = TEXT.replace(STEP, f"{{kind: {kind}, target: site-1, at: 1s}}")
    server = "databases: [sqlite, 'redis://localhost?socket=/run/redis.sock']\nworkloads:"
    assert complaint(text.replace("workloads:", server)) == (
        "x.yaml:11: faults[1].steps[0]: the databases of site-1 are at /run/redis.sock, not on its disk: "
        "expected a database `sqlite` or {start: …}"
    )
    assert parse_experiment(text.replace("workloads:", "databases: [sqlite, {start: redis}]\nworkloads:"), "x")
