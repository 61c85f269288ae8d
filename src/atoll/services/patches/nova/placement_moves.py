"""Moves of allocations that are tried again if Placement ends before it answers.

A resize first moves the server's allocations in Placement to its migration (`replace_allocation_with_migration` in
nova/conductor/tasks/migrate.py), and a failure moves it back. If Placement is killed after the commit and before the answer, the resize
fails, and nothing undoes the move: the server has no allocations, and the ended migration keeps them for ever. Upstream's
`SchedulerReportClient.move_allocations` finds out itself whether the allocations were moved already, so it may be called again.
"""

from __future__ import annotations

from typing import Any

from nova import exception
from nova.scheduler.client import report
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

RESTART_S = 30
"""Seconds for which a move is tried: longer than a restart of Placement takes."""

RETRY_S = 0.5
"""Seconds between two tries."""

_move = report.SchedulerReportClient.move_allocations

_AWAY = retry_if_result(lambda moved: moved is None) | retry_if_exception_type(exception.ConsumerAllocationRetrievalFailed)
"""Upstream's method returns `None` if the connection fails, unless it can't read the allocations."""


def move_allocations(client: report.SchedulerReportClient, *arguments: Any, **keywords: Any) -> bool | None:
    """Move all allocations of a consumer to another one, as upstream does, but try again while Placement does not answer.

    Returns:
        Whether they were moved; `None` if Placement has not answered for `RESTART_S`.

    Raises:
        ConsumerAllocationRetrievalFailed: Placement could not be asked for the allocations for `RESTART_S`.
        AllocationMoveFailed: another request has changed a consumer meanwhile.
    """
    tries = Retrying(retry=_AWAY, stop=stop_after_delay(RESTART_S), wait=wait_fixed(RETRY_S), retry_error_callback=_last)
    moved: bool | None = tries(_move, client, *arguments, **keywords)
    return moved


def _last(state: RetryCallState) -> Any:
    """Return the result of the last try, or raise its exception."""
    assert state.outcome is not None
    return state.outcome.result()


def install() -> None:
    """Have all clients of Placement in this process move allocations so."""
    report.SchedulerReportClient.move_allocations = move_allocations
