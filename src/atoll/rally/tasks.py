"""Rally's tasks: made from the workloads of experiment files, and checked by Rally itself before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atoll.rally import environment

IMAGE, FLAVOR, LARGER_FLAVOR, PUBLIC_NETWORK = "cirros-atoll-disk", "m1.tiny", "m1.small", "public"
"""Names of the resources that each cell has for Rally; the sample tasks in rally-openstack's repository find them by these names."""

IMAGE_FILE = "image.raw"
"""The name of a file with an image's data, which scenarios upload."""

_UNLIMITED = {
    "nova": {"instances": -1, "cores": -1, "ram": -1, "key_pairs": -1, "server_groups": -1},
    "neutron": dict.fromkeys(
        ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule"), -1
    ),
}  # fmt: skip


class Problem(NamedTuple):
    """A wrong part of a workload.

    Attributes:
        part: the key of the workload that is wrong: `rally`, `args`, `runner` or `contexts`.
        reason: the reason, by Rally.
    """

    part: str
    reason: str


class Checked(NamedTuple):
    """The result of the check of one workload.

    Attributes:
        task: the data of the task; for a task's file, the result of its template.
        problems: the wrong parts; empty if the workload can run.
    """

    task: Any
    problems: tuple[Problem, ...]


def is_file(name: str) -> bool:
    """Return whether the value of `rally` is the path of a task's file, and not the name of a scenario."""
    return "/" in name or name.endswith((".yaml", ".yml", ".json"))


def task_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task of a workload that names a scenario.

    Args:
        parameters: `rally`, the name of the scenario; `args`, its arguments; `contexts`, Rally's contexts, where a null leaves out a
            default; `runner`, Rally's runner, or `None` for `times` iterations, of which `concurrency` run at the same time.
    """
    runner = parameters["runner"] or {"constant": {"times": parameters["times"], "concurrency": parameters["concurrency"]}}
    if "type" in runner:  # as in the first version of Rally's tasks
        runner = {runner["type"]: {name: value for name, value in runner.items() if name != "type"}}
    contexts = {"users": {"tenants": 1, "users_per_tenant": 1}, "quotas": _UNLIMITED, **parameters["contexts"]}
    workload = {"scenario": {parameters["rally"]: dict(parameters["args"])}, "runner": runner, "contexts": contexts}
    return {"version": 2, "title": "Atoll", "subtasks": [{"title": parameters["rally"], "workloads": [workload]}]}


def supply(directory: Path) -> dict[str, Any]:
    """Return the arguments and contexts that are added if a scenario needs them and the workload does not have them.

    Args:
        directory: the directory with `IMAGE_FILE`.
    """
    return {
        "args": {
            "image": {"name": IMAGE},
            "flavor": {"name": FLAVOR},
            "to_flavor": {"name": LARGER_FLAVOR},
            "image_location": str(directory / IMAGE_FILE),
            "container_format": "bare",
            "disk_format": "raw",
        },
        "checked": {
            "subnets_per_network": 1,
            "ports_per_network": 1,
            "network_create_args": {},
            "subnet_create_args": {},
            "boot_server_args": {"auto_assign_nic": True},  # the scenario creates a second network, so that Nova could not choose
        },
        "contexts": {"network": {}},
    }


def check(python: Path, workloads: Sequence[Mapping[str, Any]]) -> list[Checked]:
    """Check workloads by Rally's own validators, without a cloud.

    Args:
        python: the interpreter of Rally's environment.
        workloads: the parameters of each workload, as for `task_of`; for a task's file, `rally` is the absolute path, and `args` are the
            values of the variables of its template.

    Raises:
        AtollError: `rally.unavailable`: Rally does not work.
    """
    tasks = [
        {"file": each["rally"], "args": each["args"]} if is_file(each["rally"]) else {"task": task_of(each), "supply": supply(Path("/"))}
        for each in workloads
    ]
    answers = environment.ask(python, "check", {"tasks": tasks})
    return [Checked(each["task"], tuple(Problem(*problem) for problem in each["problems"])) for each in answers]
