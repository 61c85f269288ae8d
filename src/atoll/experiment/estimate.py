"""An estimate of the time that a run takes, before anything starts.

The constants were measured on a machine with two cores that did nothing else; a busy machine takes longer. The estimate leaves out the
start of MariaDB, RabbitMQ and brokers, which also takes time. While a run goes on, its progress line estimates the time left from its
finished cells instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atoll.cloud.quantities import milliseconds
from atoll.experiment.architectures import BUS, HOLLOW
from atoll.experiment.sweep import Cell

_CELL_S, _FULL_SITE_S, _COMPUTE_SITE_S = 15.0, 6.0, 3.0
"""Seconds that the start and the end of a cloud take, and the seconds that each full site and each compute site adds."""

_BOOT_S, _BOOT_ROUND_TRIPS = 2.7, 31
"""Seconds to boot and delete one server, and the sequential round trips that this takes at a compute site (docs/benchmarks.md)."""

_OPERATION_S: Mapping[str, float] = {
    **dict.fromkeys(("token", "token-validate"), 0.1),
    **dict.fromkeys(("list", "list-at-scale"), 0.2),
    **dict.fromkeys(("network", "subnet", "port", "router", "security-group", "attach", "pause"), 1.0),
}
"""Seconds of one operation; those of other workloads take as long as a boot."""
_MANY_S = 0.3  # seconds that each server adds if many boot at the same time
_RALLY_S, _RALLY_ITERATION_S = 15.0, 4.0  # the start of Rally with its tenants and clean-up; one iteration, which differs by scenario
_WARM_UP_S, _START_OF_SITE_S = 2.0, 12.0


_BUS_S, _BROKER_S = 7.0, 9.0
"""Seconds that the start and the end of the processes of a bus take, and those that its RabbitMQ adds."""

_HOLLOW_S, _MEMBER_S = 10.0, 0.5
"""Seconds that a cell of hollow members takes, and those that each member adds: its certificate, and its part of the computation."""


def seconds(cells: Iterable[Cell]) -> float:
    """Return the estimated duration of cells that run one after the other, in seconds."""
    return sum(map(_seconds, cells), 0.0)


def _seconds(cell: Cell) -> float:
    if cell.system == BUS:
        return _BUS_S + (_BROKER_S if cell.rabbitmq else 0.0) + float(cell.parameters["seconds"])
    if cell.system == HOLLOW:
        return _HOLLOW_S + _MEMBER_S * len(cell.cloud["sites"])
    computes = len([site for site in cell.cloud["sites"] if site.get("kind") == "compute"])
    full = len(cell.cloud["sites"]) - computes
    up_s = _CELL_S + _FULL_SITE_S * full + _COMPUTE_SITE_S * computes
    again_s = _START_OF_SITE_S * len([each for each in cell.faults if each["kind"] in {"kill", "restart", "power-cut"}])
    return up_s + _work_s(cell, cell.parameters, computes) + again_s


def _work_s(cell: Cell, parameters: Mapping[str, Any], computes: int) -> float:
    if "rally" in parameters:
        return _RALLY_S + _RALLY_ITERATION_S * float(parameters["times"]) / float(parameters["concurrency"])
    if cell.workload in {"open-load", "closed-load"}:
        return _WARM_UP_S + float(parameters["seconds"])
    if cell.workload == "boot-many":
        return _BOOT_S + _MANY_S * float(parameters["servers"])
    turns = len(cell.cloud["sites"]) if parameters["order"] == "in-turn" else 1
    rtt_s = 2 * milliseconds(str(cell.factors.get("delay", "0ms"))) / 1e3
    boot_s = _BOOT_S + (_BOOT_ROUND_TRIPS * rtt_s if computes else 0.0)
    once_s = _OPERATION_S.get(cell.workload, boot_s)
    before_s = _MANY_S * float(parameters["servers"]) if "servers" in parameters else 0.0
    return before_s + once_s * (1 + float(parameters["times"]) * turns)
