"""The program in Rally's environment, with a Rally from memory; tests/sites/test_rally.py runs it with the real one."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from atoll.rally import driver, tasks


class NotFoundError(Exception):
    """No plug-in has this name."""


class BootServer:
    """A scenario that boots a server."""

    def run(self, image, flavor, subnets_per_network=None, **kwargs):
        """Do nothing with the arguments."""

    @staticmethod
    def get_name():
        return "NovaServers.boot_server"

    @staticmethod
    def _meta_get(_key, default):
        return [("required_services", (), {"services": ["nova"]}), ("number", ("x",), {})]


class FromVolume(BootServer):
    """A scenario that needs volumes."""

    @staticmethod
    def _meta_get(_key, default):
        return [("required_services", (["nova"], "cinder"), {})]


KNOWN = {"NovaServers.boot_server": BootServer, "NovaServers.from_volume": FromVolume}


class Validated:
    """A kind of plug-ins whose validator refuses settings with the key `wrong`."""

    @staticmethod
    def get(name):
        if name not in KNOWN:
            raise NotFoundError(name)
        return KNOWN[name]

    @staticmethod
    def get_all():
        return [BootServer]

    @staticmethod
    def validate(name, context, config, plugin_cfg, vtype):
        given = config["args"] if config else plugin_cfg
        return [f"plugin '{name}' doesn't pass x validation. Details: no wrong\n\nschema"] if "wrong" in given else []


class TaskConfig:
    """The first workload of a task, as Rally describes it."""

    def __init__(self, task) -> None:
        given = task["subtasks"][0]["workloads"][0]
        (name, args), (kind, settings) = next(iter(given["scenario"].items())), next(iter(given["runner"].items()))
        workload = {"name": name, "args": args, "runner_type": kind, "runner": settings, "contexts": given["contexts"]}
        self.subtasks = [{"workloads": [{**workload, "sla": {}, "hooks": []}]}]


@pytest.fixture(autouse=True)
def _rally(monkeypatch):
    kinds = {"scenario": "Scenario", "runner": "ScenarioRunner", "context": "Context", "sla": "SLA"}
    task = {name: SimpleNamespace(**{kind: Validated}) for name, kind in kinds.items()}
    task["hook"] = SimpleNamespace(HookAction=Validated, HookTrigger=Validated)
    modules = {"rally": {"exceptions": SimpleNamespace(RallyException=NotFoundError)}, "rally.task": task}
    modules["rally.task.task_cfg"] = {"TaskConfig": TaskConfig}
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(driver, "_api", lambda: None)


def checked(tmp_path, **changes):
    given = {"rally": "NovaServers.boot_server", "args": {}, "contexts": {}, "runner": None, "times": 1, "concurrency": 1, **changes}
    source, target = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps({"tasks": [{"task": tasks.task_of(given), "supply": tasks.supply(tmp_path)}]}), encoding="utf-8")
    driver.main("check", str(source), str(target))
    return json.loads(target.read_text(encoding="utf-8"))[0]["problems"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"args": {"wrong": 1}}, [["args", "no wrong"]]),
        ({"contexts": {"wrong": {"wrong": 1}}}, [["contexts", "no wrong"]]),
        ({"runner": {"rps": {"wrong": 1}}}, [["runner", "no wrong"]]),
        (
            {"rally": "NovaServers.boot_servr"},
            [["rally", "rally-openstack has no scenario NovaServers.boot_servr (did you mean NovaServers.boot_server?)"]],
        ),
        (
            {"rally": "NovaServers.from_volume"},
            [["rally", "the scenario NovaServers.from_volume needs cinder, which a site does not have"]],
        ),
        ({"runner": {}}, []),
    ],
)
def test_wrong_parts_are_named(changes, expected, tmp_path):
    assert checked(tmp_path, **changes) == expected


def test_a_task_that_rally_can_not_read_is_a_problem(monkeypatch, tmp_path):
    def refuse(_task):
        raise ValueError("not a task")

    monkeypatch.setattr(sys.modules["rally.task.task_cfg"], "TaskConfig", refuse)
    assert checked(tmp_path) == [["rally", "not a task"]]


def test_missing_arguments_and_contexts_are_supplied(tmp_path):
    parameters = {"rally": "NovaServers.boot_server", "args": {"flavor": {"name": "own"}}, "contexts": {"quotas": None}}
    made = driver.filled(tasks.task_of({**parameters, "runner": None, "times": 1, "concurrency": 1}), tasks.supply(tmp_path))
    workload = made["subtasks"][0]["workloads"][0]
    assert workload["scenario"] == {
        "NovaServers.boot_server": {"flavor": {"name": "own"}, "image": {"name": tasks.IMAGE}, "subnets_per_network": 1}
    }
    assert workload["contexts"] == {"network": {}, "users": {"tenants": 1, "users_per_tenant": 1}}
