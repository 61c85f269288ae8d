"""Moves and deletions of allocations that are tried again if Placement ends before it answers.

A resize first moves the server's allocations in Placement to its migration (`replace_allocation_with_migration` in
nova/conductor/tasks/migrate.py), and a failure moves it back. If Placement is killed after the commit and before the answer, the resize
fails, and nothing undoes the move: the server holds nothing, and the ended migration holds the server's resources for ever. When a resize
is confirmed, the allocations of its migration are deleted (`_delete_allocation_after_move` in nova/compute/manager.py). If Placement does
not answer, upstream logs a warning, and they stay for ever as well.

Upstream's `SchedulerReportClient.move_allocations` and `delete_allocation_for_instance` find out themselves whether it was done already,
so they may be called again.
"""

from __future__ import annotations

from typing import Any

from nova import exception
from nova.scheduler.client import report
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

RESTART_S = 30
"""Seconds for which a write is tried: longer than a restart of Placement takes."""

RETRY_S = 0.5
"""Seconds between two tries."""

_move = report.SchedulerReportClient.move_allocations
_delete = report.SchedulerReportClient.delete_allocation_for_instance

_AWAY = retry_if_result(lambda done: done is None) | retry_if_exception_type(exception.ConsumerAllocationRetrievalFailed)
"""Upstream's methods return `None` if the connection fails; a move that can't read the allocations raises an exception."""


def move_allocations(client: report.SchedulerReportClient, *arguments: Any, **keywords: Any) -> bool | None:
    """Move all allocations of a consumer to another one, as upstream does, but try again while Placement does not answer.

    Returns:
        Whether they were moved; `None` if Placement has not answered for `RESTART_S`.

    Raises:
        ConsumerAllocationRetrievalFailed: Placement could not be asked for the allocations for `RESTART_S`.
        AllocationMoveFailed: another request has changed a consumer meanwhile.
    """
    moved: bool | None = _tries()(_move, client, *arguments, **keywords)
    return moved


def delete_allocations(client: report.SchedulerReportClient, *arguments: Any, **keywords: Any) -> bool | None:
    """Delete the allocations of a server or a migration, as upstream does, but try again while Placement does not answer.

    Returns:
        Whether there were allocations to delete; `None` if Placement has not answered for `RESTART_S`.

    Raises:
        AllocationDeleteFailed: Placement refused the deletion, or another request has changed the allocations meanwhile.
    """
    deleted: bool | None = _tries()(_delete, client, *arguments, **keywords)
    return deleted


def _tries() -> Retrying:
    return Retrying(retry=_AWAY, stop=stop_after_delay(RESTART_S), wait=wait_fixed(RETRY_S), retry_error_callback=_last)


def _last(state: RetryCallState) -> Any:
    """Return the result of the last try, or raise its exception."""
    assert state.outcome is not None
    return state.outcome.result()


def install() -> None:
    """Have all clients of Placement in this process move and delete allocations so."""
    report.SchedulerReportClient.move_allocations = move_allocations
    report.SchedulerReportClient.delete_allocation_for_instance = delete_allocations
