"""Workloads of Rally in experiment files: refused with line and reason, swept, and kept whole in the cells."""

import json

import pytest
from refusals import refusal

from atoll.experiment.document import parse_experiment
from atoll.experiment.estimate import seconds
from atoll.experiment.sweep import Cell, cells
from atoll.rally.tasks import Checked, Problem

TEXT = """\
name: small
repetitions: 1
architectures:
- {kind: cooperative, sites: 2}
workloads:
  token:
  rally-boot:
    rally: NovaServers.boot_and_delete_server
    args: {force_delete: true}
    times: [2, 5]
    concurrency: [1, 2]
"""
FILE = "    rally: task.yaml\n    args: {n: 3}\n"


def checked_as(*problems, task=None):
    return lambda workloads: [Checked(task, tuple(Problem(*each) for each in problems)) for _workload in workloads]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("  rally-boot:", "  boot:", "x.yaml:7: workloads.boot: expected a name of 1 to 32 lower-case letters, digits and hyphens"),
        ("  rally-boot:", "  Boot_1:", "x.yaml:7: workloads.Boot_1: expected a name of 1 to 32 lower-case letters"),
        ("rally: Nova", "raly: Nova", "x.yaml:7: workloads.rally-boot: no workload is called rally-boot: expected one of boot, boot-many"),
        ("times: [2, 5]", "times: 0", "x.yaml:10: workloads.rally-boot.times: expected a whole number from 1 to 100000, got 0"),
        ("times: [2, 5]", "at: last", "x.yaml:10: workloads.rally-boot.at: expected `first` or `each`, got the text 'last'"),
        ("times: [2, 5]", "task: {}", "x.yaml:10: workloads.rally-boot.task: rally-boot has no parameter task"),
        ("times: [2, 5]", "runner: {rps: {rps: 2}}", "x.yaml:7: workloads.rally-boot: `concurrency` is given beside `runner`"),
        ("args: {force_delete: true}", "args: [1]", "x.yaml:9: workloads.rally-boot.args: expected a mapping, got a list"),
        ("kind: cooperative", "kind: regions", "x.yaml:4: architectures[0]: Rally can't reach separate regions through their broker"),
        (
            "rally: NovaServers.boot_and_delete_server",
            "rally: t.yaml",
            "x.yaml:7: workloads.rally-boot: `concurrency` is given beside the fil",
        ),
    ],
)
def test_a_wrong_workload_is_refused_with_its_line(before, after, expected):
    assert refusal("experiment.invalid", lambda: parse_experiment(TEXT.replace(before, after), "x.yaml", rally=checked_as())).startswith(
        expected
    )


def test_a_missing_file_is_refused(tmp_path):
    text = TEXT[: TEXT.index("    rally:")] + FILE
    assert refusal("experiment.invalid", lambda: parse_experiment(text, "x.yaml", tmp_path, checked_as())).startswith(
        f"x.yaml:8: workloads.rally-boot.rally: {tmp_path}/task.yaml: no such file"
    )


@pytest.mark.parametrize(("part", "line"), [("rally", 8), ("args", 9)])
def test_rallys_own_complaints_have_the_line_of_their_part(part, line):
    assert refusal("experiment.invalid", lambda: parse_experiment(TEXT, "x.yaml", rally=checked_as((part, "no such thing")))).startswith(
        f"x.yaml:{line}: workloads.rally-boot.{part}: no such thing"
    )


def test_rally_is_not_asked_about_atolls_own_workloads():
    text = TEXT[: TEXT.index("  rally-boot:")]
    assert parse_experiment(text, "x.yaml", rally=lambda _workloads: pytest.fail("asked")).count == 1


def test_counts_are_swept_and_arguments_are_not(tmp_path):
    asked = []

    def check(workloads):
        asked.extend(workloads)
        return checked_as()(workloads)

    experiment = parse_experiment(TEXT, "x.yaml", rally=check)
    assert experiment.count == 5
    assert [(each["rally"], each["args"]) for each in asked] == [("NovaServers.boot_and_delete_server", {"force_delete": True})]
    made = [cell for cell in cells(experiment, tmp_path) if cell.workload == "rally-boot"]
    assert sorted((cell.parameters["times"], cell.parameters["concurrency"]) for cell in made) == [(2, 1), (2, 2), (5, 1), (5, 2)]
    factors = made[0].factors
    assert factors["rally"] == "NovaServers.boot_and_delete_server"
    assert factors["args"] == '{"force_delete": true}'
    assert not {"contexts", "runner", "at", "task"} & set(factors)
    assert seconds(made) > 0
    assert Cell.from_json(json.loads(json.dumps(made[0].to_json()))) == made[0]


def test_a_cell_has_the_whole_task_of_a_file(tmp_path):
    (tmp_path / "task.yaml").write_text("{}", encoding="utf-8")
    asked = []

    def check(workloads):
        asked.extend(workloads)
        return checked_as(task={"Authenticate.keystone": [{"runner": {"type": "serial"}}]})(workloads)

    experiment = parse_experiment(TEXT[: TEXT.index("    rally:")] + FILE, "x.yaml", tmp_path, check)
    assert [(each["rally"], each["args"]) for each in asked] == [(str(tmp_path / "task.yaml"), {"n": 3})]
    cell = next(cell for cell in cells(experiment, tmp_path) if cell.workload == "rally-boot")
    assert cell.parameters["task"] == {"Authenticate.keystone": [{"runner": {"type": "serial"}}]}
    assert cell.factors["rally"] == "task.yaml"
    assert not {"times", "concurrency", "task"} & set(cell.factors)
    assert seconds([cell]) > 0
