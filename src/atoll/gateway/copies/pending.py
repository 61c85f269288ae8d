"""Operations that sites carry out later, because they could not be reached, or failed when other sites succeeded.

They are kept in an SQLite file until each site has carried them out, and are tried again as soon as the mesh reaches the site. The order of
the operations on one resource at one site is kept. Before an operation is stored here, a site has confirmed the requester's right. The
user's token may expire meanwhile, so each operation carries the requester and the identity of the object, and the site that carries it out
checks both (`perform`). If a check fails, the operation is given up, and `atoll conflicts` lists its object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.delivery import Deliverer, PermanentlyRefused, RetryLater
from atoll.gateway.copies.pending_operation import PendingOperation, resource_of
from atoll.gateway.copies.pending_store import PendingStore, resource_key
from atoll.gateway.copies.perform import Performer
from atoll.gateway.request.call import Call
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Seconds between two searches for operations that can be tried again."""

UNDELIVERED_S = 3.0
"""Seconds after which the kernel gives up an unacknowledged request (TCP_USER_TIMEOUT of connections to other sites). After an earlier
retry, the first attempt could still arrive, later than an operation that follows it."""

LONGEST_DELAY_S = 600.0
"""Longest delay in seconds. A refused operation is tried again after 10 s, then after twice as long each time."""

MOST_REFUSALS = 10
"""Refusals (in about an hour) after which a change is given up and logged. A deletion is never given up, because the project would
otherwise pay for the resource."""

AT_ONCE = 8
"""Number of resources whose operations are carried out at the same time, so that others do not wait for a large image."""


class Pending:
    """The waiting operations, and the worker that has them carried out.

    Args:
        file: the SQLite file, in an existing directory.
        sites: sends requests to the sites.
        now: returns the time in seconds since 1970, for display.
        performer: carries out the operations of this site; by default, one that pulls no images.
        conflicts: records the operations that failed a check; by default, in memory.
        durable: see `opened`.

    Raises:
        sqlite3.Error: the file can't be read or written.
    """

    def __init__(  # noqa: PLR0913 - each is a part of the gateway or of the machine that a test replaces
        self,
        file: Path,
        sites: Sites,
        now: Callable[[], float],
        performer: Performer | None = None,
        conflicts: Conflicts | None = None,
        *,
        durable: bool = True,
    ) -> None:
        self._conflicts = conflicts or Conflicts()
        self._store = PendingStore(file, durable=durable)
        self._sites = sites
        self._now = now
        self._held: set[int] = set()
        self._wake = asyncio.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._executor = Deliverer(sites, performer or Performer(sites))
        self._slots = asyncio.Semaphore(AT_ONCE)

    def add(self, operations: Iterable[PendingOperation]) -> None:
        """Keep operations that are carried out later. They are on disk when this returns.

        Raises:
            sqlite3.Error: the operations can't be written.
        """
        for each in operations:
            LOG.warning("%s carries out later: %s (%s)", each.site, each, each.error)
            self._store.supersede(*self._store.add([each], self._now()))
        self.wake()

    def hold(self, operations: Iterable[PendingOperation]) -> list[int]:
        """Store operations without beginning them. This process may still drop them; if it dies, its successor carries them out.

        Returns:
            The numbers of the operations, for `release` and `drop`.

        Raises:
            sqlite3.Error: the operations can't be written.
        """
        numbers = self._store.add(operations, self._now())
        self._held |= set(numbers)
        return numbers

    def release(self, reasons: Mapping[int, str]) -> None:
        """Release held operations, so that they are carried out.

        Args:
            reasons: the reason why each operation could not be carried out immediately, by its number.
        """
        for number, why in reasons.items():
            operation = self._store.failed(number, why, refused=False)
            self._delay(operation.site, resource_key(operation), UNDELIVERED_S)
            self._store.supersede(number)
            LOG.warning("%s carries out an operation later: %s", operation.site, why)
        self._held -= set(reasons)
        self.wake()

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove held operations that need not be carried out: all of them or, if this process dies now, none."""
        gone = set(numbers)
        self._store.done(*gone)
        self._held -= gone
        self.wake()  # another operation may wait behind it

    def waits(self, site: str, call: Call) -> bool:
        """Return whether an operation on the same resource waits for a site, so that a later one has to wait too."""
        return self._store.first(site, call.service + resource_of(call.path)) is not None

    def list(self) -> list[dict[str, Any]]:
        """Return the waiting operations, oldest first, for JSON."""
        return [
            {
                "site": each.site,
                "what": str(each),
                "since": datetime.fromtimestamp(each.since, UTC).isoformat(timespec="seconds"),
                "attempts": each.attempts,
                "error": each.error,
            }
            for each in self._store.all()
            if each.number not in self._held
        ]

    def forget(self, site: str) -> None:
        """Remove the operations of a site that has left or was revoked."""
        self._store.forget(site)

    def wake(self, *_ignored: object) -> None:
        """Try the waiting operations now, since a site may be reachable again; a callback for `Mesh.on_members`."""
        self._wake.set()

    async def run(self) -> None:
        """Have the operations carried out, until cancelled."""
        try:
            while True:
                self._wake.clear()
                self._begin()
                now = asyncio.get_running_loop().time()
                due = min((then - now for then in self._not_before.values() if then > now), default=INTERVAL_S)
                try:
                    async with asyncio.timeout(min(due, INTERVAL_S)):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """Close the database file; `run` does so when it ends."""
        self._store.close()

    def _begin(self) -> None:
        """Start a task for each resource that has none, at sites that can be reached."""
        loop = asyncio.get_running_loop()
        there = {self._sites.here, *self._sites.reachable()}
        for key in self._store.resources():
            if key not in self._running and key[0] in there and loop.time() >= self._not_before.get(key, 0):
                task = self._running[key] = loop.create_task(self._work_off(*key))
                task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("the operations on %s at %s could not be tried", key[1], key[0], exc_info=error)

    async def _work_off(self, site: str, resource: str) -> None:
        """Have the operations on one resource at one site carried out in order, up to the first that fails."""
        async with self._slots:
            while (operation := self._store.first(site, resource)) is not None and operation.number not in self._held:
                try:
                    await self._executor.attempt(operation)
                except PermanentlyRefused as unfit:
                    self._refuse(operation, str(unfit))
                except RetryLater as later:
                    self._store.failed(operation.number, str(later), refused=later.refused)
                    if not later.refused:
                        self._delay(site, resource, UNDELIVERED_S)
                        return
                    if not self._give_up(operation, str(later)):
                        self._delay(site, resource, min(LONGEST_DELAY_S, INTERVAL_S * 2**operation.attempts))
                        return
                else:
                    LOG.info("%s has carried out: %s", site, operation)
                    self._store.done(operation.number)
                self._executor.forget(operation)
                self._not_before.pop((site, resource), None)

    def _refuse(self, operation: PendingOperation, why: str) -> None:
        """Give up an operation that failed a check, and record a conflict for the operator."""
        LOG.error("%s refuses for good: %s (%s)", operation.site, operation, why)
        kind = f"pending {operation.service} {operation.method}"
        self._conflicts.note(kind, operation.tag or operation.resource.rpartition("/")[2], [self._sites.here, operation.site], why)
        self._store.done(operation.number)

    def _delay(self, site: str, resource: str, seconds: float) -> None:
        self._not_before[site, resource] = asyncio.get_running_loop().time() + seconds

    def _give_up(self, operation: PendingOperation, why: str) -> bool:
        if operation.method == "DELETE" or operation.attempts + 1 < MOST_REFUSALS:
            return False
        LOG.error("%s refuses for good, and differs from the other sites now: %s (%s)", operation.site, operation, why)
        self._store.done(operation.number)
        return True
