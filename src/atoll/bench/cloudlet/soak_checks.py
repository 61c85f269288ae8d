"""The rule of a soak: every server exists exactly once, and runs exactly once."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from atoll.bench.faults.violation import Violation

_LOOK_S = 0.5
_QEMU = "qemu-system"


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


@dataclass(frozen=True)
class RunningGuest:
    """A QEMU process of a server.

    Attributes:
        site: the site to whose directory the process belongs.
        server: the server's id.
    """

    site: str
    server: str


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


def guests(root: Path, sites: Iterable[str], processes: Path = Path("/proc")) -> list[RunningGuest]:
    """Return the QEMU processes of a cloud's servers.

    Args:
        root: the directory of the cloud's sites.
        sites: the names of the sites.
        processes: the directory of the kernel's information about processes.
    """
    found = []
    for file in processes.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended
            words = file.read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name.startswith(_QEMU) and "-uuid" in words[:-2]:
                line, server = " ".join(words), words[words.index("-uuid") + 1]
                found += [RunningGuest(site, server) for site in sites if f"{root / site}/" in line]
    return found


class TwinWatch:
    """A thread that looks for servers that run twice, again and again while the context lasts.

    Args:
        look: returns the guests that run.

    Attributes:
        violations: one for each server that was seen to run twice.
        looks: the number of looks.
    """

    def __init__(self, look: Callable[[], Sequence[RunningGuest]]) -> None:
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twins", daemon=True)
        self.violations: dict[str, Violation] = {}
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def look_once(self) -> None:
        """Look, and record the servers that run twice."""
        self.looks += 1
        for server, count in Counter(guest.server for guest in self._look()).items():
            if count > 1:
                self.violations[server] = Violation("duplicated", f"{count} guests of server {server} ran at the same time", server)

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look_once()
