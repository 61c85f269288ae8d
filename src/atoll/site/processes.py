"""The processes of sites: those that run, the start of a plan, and stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atoll.errors import AtollError
from atoll.runtime.client import Event, SupervisorClient, connect
from atoll.runtime.spec import Plan
from atoll.site.state import State

Observer = Callable[[Event], None]

ENDED = ("failed", "stopped", "done")
"""The states of processes that have ended."""


def running_sites(state: State) -> set[str]:
    """Return the names of the sites with a running process."""
    control = connect(state.root) if state.root.exists() else None
    statuses = control.status() if control else []
    return {site_of(status.name) for status in statuses if status.kind == "service" and status.state not in ENDED}


def site_of(process: str) -> str:
    """Return the site of a process, from the process's name `site/service`."""
    return process.partition("/")[0]


def start_plan(control: SupervisorClient, plan: Plan, observe: Observer) -> tuple[str, ...]:
    """Apply a plan, and return the names of the processes that were started.

    Raises:
        AtollError: `site.failed`, with the cause; `state.busy`, `port.*`.
    """
    asked = {process.name for process in plan.processes}
    failed: list[Event] = []
    started: set[str] = set()
    try:
        for event in control.start(plan):
            observe(event)
            if event.process in asked and event.detail != "unchanged":
                started.add(event.process)
            if event.state == "failed":
                failed.append(event)
    except AtollError as error:
        if error.kind.code != "site.failed" or not failed:
            raise
        raise _explained(failed) from error
    return tuple(sorted(started))


def _explained(failed: Sequence[Event]) -> AtollError:
    """Return the error for the first failure that is not a consequence of another, with that process's log as the hint."""
    causes = [event for event in failed if not event.detail.startswith("needs ")] or list(failed)
    cause = causes[0]
    lines = [line.strip() for line in cause.detail.splitlines() if line.strip()] or ["no reason was given"]
    why = lines[0] if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
    more = f" (and {len(failed) - 1} more with it)" if len(failed) > 1 else ""
    return AtollError("site.failed", f"{cause.process} did not start{more}: {why}", f"`atoll logs {cause.process}`")


def stop_processes(control: SupervisorClient, names: Sequence[str] | None, observe: Observer) -> None:
    """Stop processes gracefully, and wait until they have ended.

    Args:
        control: the client of the supervisor.
        names: the names of the processes; `None` means all.
        observe: called with the events of processes.
    """
    for event in control.stop(None if names is None else list(names)):
        observe(event)
