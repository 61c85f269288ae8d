"""Tasks of Rally, made from the parameters of workloads."""

from pathlib import Path

import pytest

from atoll.rally import tasks

PARAMETERS = {"rally": "NovaServers.boot_server", "args": {"nics": []}, "contexts": {}, "runner": None, "times": 3, "concurrency": 2}


def workload(**changes):
    return tasks.task_of({**PARAMETERS, **changes})["subtasks"][0]["workloads"][0]


def test_a_scenario_becomes_a_task_with_tenants_and_without_quotas():
    made = workload()
    assert made["scenario"] == {"NovaServers.boot_server": {"nics": []}}
    assert made["runner"] == {"constant": {"times": 3, "concurrency": 2}}
    assert made["contexts"]["users"] == {"tenants": 1, "users_per_tenant": 1}
    assert made["contexts"]["quotas"]["nova"]["instances"] == -1


@pytest.mark.parametrize("runner", [{"rps": {"times": 9, "rps": 3}}, {"type": "rps", "times": 9, "rps": 3}])
def test_a_runner_may_have_the_form_of_either_version(runner):
    assert workload(runner=runner)["runner"] == {"rps": {"times": 9, "rps": 3}}


def test_contexts_replace_the_defaults():
    made = workload(contexts={"users": {"tenants": 4}, "quotas": None, "network": {"dualstack": True}})["contexts"]
    assert made == {"users": {"tenants": 4}, "quotas": None, "network": {"dualstack": True}}


@pytest.mark.parametrize(
    ("name", "expected"), [("NovaServers.boot_server", False), ("boot.yaml", True), ("tasks/x", True), ("b.json", True)]
)
def test_files_are_told_from_scenarios(name, expected):
    assert tasks.is_file(name) is expected


def test_all_workloads_are_checked_together(monkeypatch):
    asked = []

    def ask(python, verb, work):
        asked.append((python, verb, work))
        return [{"task": None, "problems": [["args", "Unexpected"]]}, {"task": {"a": 1}, "problems": []}]

    monkeypatch.setattr(tasks.environment, "ask", ask)
    found = tasks.check(Path("/python"), [PARAMETERS, {**PARAMETERS, "rally": "/t.yaml", "args": {"n": 1}}])
    assert found == [tasks.Checked(None, (tasks.Problem("args", "Unexpected"),)), tasks.Checked({"a": 1}, ())]
    ((python, verb, work),) = asked
    assert (python, verb) == (Path("/python"), "check")
    assert work["tasks"][0]["supply"]["args"]["image"] == {"name": tasks.IMAGE}
    assert work["tasks"][1] == {"file": "/t.yaml", "args": {"n": 1}}
