"""The rule of a soak: every server exists exactly once, and runs exactly once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from atoll.bench.cloudlet.running import RunningGuest
from atoll.bench.faults.violation import Violation


@dataclass(frozen=True)
class ListedServer:
    """A server that a site's own Nova lists.

    Attributes:
        site: the site.
        id: the server's id.
        name: the server's name.
        status: the server's status.
    """

    site: str
    id: str
    name: str
    status: str


def violations(
    expected: Collection[str], possible: Collection[str], listed: Sequence[ListedServer], running: Sequence[RunningGuest]
) -> list[Violation]:
    """Return the servers that do not exist or do not run exactly once.

    Args:
        expected: the ids of the servers that must exist.
        possible: the names of further servers that may exist, because their creation or deletion was not acknowledged.
        listed: the servers of all sites.
        running: the guests of all sites.
    """
    places: Mapping[str, list[ListedServer]] = defaultdict(list)
    for each in listed:
        places[each.id].append(each)
    runs = Counter(guest.server for guest in running)
    found = [each for server in expected for each in _of_expected(server, places.get(server, []), runs[server])]
    for server, rows in places.items():
        if server not in expected:
            found += _of_unexpected(server, rows, runs[server], possible)
    strays = [guest for guest in running if guest.server not in places and guest.server not in expected]
    return found + [
        Violation("orphan", f"a guest of server {each.server} runs at {each.site}, but no site lists it", each.server) for each in strays
    ]


def _of_expected(server: str, rows: Sequence[ListedServer], runs: int) -> Iterator[Violation]:
    where = " and ".join(row.site for row in rows)
    if not rows:
        yield Violation("lost", f"no site lists server {server}", server)
    if len(rows) > 1:
        yield Violation("duplicated", f"server {server} is listed at {where}", server)
    if len(rows) == 1 and rows[0].status != "ACTIVE":
        yield Violation("unhealthy", f"server {server} is {rows[0].status} at {where}", server)
    if runs == 0:
        yield Violation("lost", f"server {server} runs nowhere", server)
    if runs > 1:
        yield Violation("duplicated", f"{runs} guests of server {server} run", server)


def _of_unexpected(server: str, rows: Sequence[ListedServer], runs: int, possible: Collection[str]) -> Iterator[Violation]:
    if any(row.name not in possible for row in rows):
        yield Violation("orphan", f"server {server} at {rows[0].site} was deleted or never acknowledged", server)
    if len(rows) > 1 or runs > 1:
        yield Violation("duplicated", f"server {server} exists {len(rows)} times and runs {runs} times", server)
