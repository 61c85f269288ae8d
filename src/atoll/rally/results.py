"""The operations in Rally's JSON report: each iteration of a scenario, and its atomic actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class RallyOperation(NamedTuple):
    """One iteration of a scenario, or one of its atomic actions.

    Attributes:
        name: the name of the scenario, or that of the action, such as `nova.boot_server`; an action within another one has the names of
            both, separated by `/`.
        started: the start, in seconds since the epoch.
        ended: the end, in seconds since the epoch.
        error: the reason why it failed; empty if it succeeded.
    """

    name: str
    started: float
    ended: float
    error: str


def operations(report: Mapping[str, Any]) -> Iterator[RallyOperation]:
    """Yield all iterations of a report with their actions, failed ones included, and each clean-up that failed.

    The duration of an iteration is the one that Rally reports, which excludes pauses that arguments such as `min_sleep` request.

    Args:
        report: the report, as Rally's exporter `json` writes it.
    """
    for workload in _workloads(report):
        name = next(iter(workload["scenario"]))
        for iteration in workload["data"]:
            begun, error = float(iteration["timestamp"]), _error(iteration["error"])
            yield RallyOperation(name, begun, begun + float(iteration["duration"]), error)
            yield from _actions(iteration["atomic_actions"], "", error)
        for context in workload["contexts_results"]:
            if found := (context.get("cleanup") or {}).get("error"):
                at = context["cleanup"]
                yield RallyOperation(
                    f"cleanup of {context['plugin_name']}", float(at["started_at"]), float(at["finished_at"]), _cause(found)
                )


def _actions(actions: list[dict[str, Any]], parent: str, error: str) -> Iterator[RallyOperation]:
    for action in actions:
        name = f"{parent}{action['name']}"
        failed = (error or "the action failed") if action.get("failed") else ""
        yield RallyOperation(name, float(action["started_at"]), float(action["finished_at"]), failed)
        yield from _actions(action.get("children", []), f"{name}/", error)


def _error(error: list[Any]) -> str:
    """Return the error of an iteration, which Rally writes as class, message and trace."""
    return ": ".join(" ".join(str(part).split()) for part in error[:2] if part)


def _cause(error: Mapping[str, Any]) -> str:
    return _error([error.get("etype", ""), error.get("msg", "")])


def unfinished(report: Mapping[str, Any]) -> str:
    """Return the reason why a workload of a report has fewer iterations than requested, or none; empty if all workloads are complete."""
    for workload in _workloads(report):
        name, done = next(iter(workload["scenario"])), len(workload["data"])
        for context in workload["contexts_results"]:
            if found := (context.get("setup") or {}).get("error"):
                return f"{name}: the set-up of the context {context['plugin_name']} failed: {_cause(found)}"
        kind, settings = next(iter(workload["runner"].items()))
        wanted = int(settings.get("times", 1)) if kind in {"constant", "serial", "rps"} else 1
        if done < wanted:
            return f"{name}: {done} of {wanted} iterations ran"
    return ""


def _workloads(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task in report["tasks"]:
        for subtask in task["subtasks"]:
            yield from subtask["workloads"]
