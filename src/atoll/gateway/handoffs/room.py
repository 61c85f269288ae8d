"""Limits on concurrent hand-offs, for each project, for each site and in all, so that no tenant and no site can use up all of them."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arrival, Arriving, Departure

MOST_OF_PROJECT = 4
"""Greatest number of servers of one project that leave a site at the same time; also of those that arrive at a site."""

MOST_LEAVING = 16
"""Greatest number of servers that leave a site at the same time."""

MOST_ARRIVING = 16
"""Greatest number of servers that arrive from one site at the same time, because each occupies disk space."""

MOST_FROM_ALL = 64
"""Greatest number of servers that arrive at a site at the same time."""


def require_room_to_leave(leaving: Iterable[Departure], project: str, here: str) -> None:
    """Check that one more server of a project may leave this site.

    Args:
        leaving: the hand-offs that have not ended.
        project: the project.
        here: the name of this site.

    Raises:
        HandoffRefused: a limit is reached.
    """
    found = list(leaving)
    _require(sum(each.project == project for each in found), MOST_OF_PROJECT, f"{here} already hands off", f"of project {project}")
    _require(len(found), MOST_LEAVING, f"{here} already hands off", "in all")


def require_room_to_arrive(arriving: Iterable[Arrival], new: Arrival, here: str) -> None:
    """Check that one more server may arrive at this site.

    Args:
        arriving: the hand-offs to this site.
        new: the hand-off that is to begin.
        here: the name of this site.

    Raises:
        HandoffRefused: a limit is reached.
    """
    found = [each for each in arriving if each.state in {Arriving.PREPARED, Arriving.COMMITTED} and each.id != new.id]
    takes = f"{here} already takes"
    _require(sum(each.project == new.project for each in found), MOST_OF_PROJECT, takes, f"of project {new.project}")
    _require(sum(each.site == new.site for each in found), MOST_ARRIVING, takes, f"from {new.site}")
    _require(len(found), MOST_FROM_ALL, takes, "from all sites")


def _require(count: int, most: int, takes: str, which: str) -> None:
    if count >= most:
        raise HandoffRefused(f"{takes} {count} servers {which}: the limit is {most}. Try again when one of these hand-offs has ended", 429)
