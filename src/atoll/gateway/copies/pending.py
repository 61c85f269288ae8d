"""What other sites have yet to do: it was done elsewhere, and they could not be reached, or failed.

Kept in an SQLite file until each has done it, and tried again as soon as the mesh reaches the site. For one resource at one site,
the order in which things were asked for is kept. Whoever asked had the right to, which a site has confirmed before anything comes
here; as a user's token does not live for ever, each operation carries who asked for it and which object was meant, and the site that
carries it out makes sure that both fit (`perform`). What does not fit is given up, and the operator is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from atoll.gateway.copies.attempt import Executor, Later, Unfit
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.operation import Operation, resource_of
from atoll.gateway.copies.pending_store import Store, resource_key
from atoll.gateway.copies.perform import Performer
from atoll.gateway.request.call import Call
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Seconds between two looks for what can be tried again."""

UNDELIVERED_S = 3.0
"""Seconds after which the kernel gives up a request that nobody has acknowledged (TCP_USER_TIMEOUT of connections to other sites). If it
were tried again before, the first try could still arrive, after what was asked for later."""

LONGEST_DELAY_S = 600.0
"""What a site refuses is tried again after 10 s, and after twice as long each time, but no longer than this."""

MOST_REFUSALS = 10
"""After so many refusals (an hour) a change is given up, and the log says so. A deletion never is: somebody would pay for what is left."""

AT_ONCE = 8
"""Resources that are worked on at the same time: an image may take long, and others shall not wait for it."""


class Pending:
    """The operations that wait, and the worker that does them.

    Args:
        file: the SQLite file; its directory must be there.
        sites: to ask.
        now: the wall clock, in seconds; only for people.
        performer: carries out those of this site; without it, one that pulls no images.
        conflicts: where it is noted what does not fit; without it, in memory.

    Raises:
        sqlite3.Error: the file can't be read or written.
    """

    def __init__(  # noqa: PLR0913 - what it stands on
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
        self._store = Store(file, durable=durable)
        self._sites = sites
        self._now = now
        self._held: set[int] = set()
        self._wake = asyncio.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._executor = Executor(sites, performer or Performer(sites))
        self._slots = asyncio.Semaphore(AT_ONCE)

    def add(self, operations: Iterable[Operation]) -> None:
        """Have something done later. On the disk when this returns.

        Raises:
            sqlite3.Error: it can't be written.
        """
        for each in operations:
            LOG.warning("%s will do it later: %s (%s)", each.site, each, each.error)
            self._store.supersede(*self._store.add([each], self._now()))
        self.wake()

    def hold(self, operations: Iterable[Operation]) -> list[int]:
        """Keep what has to be done unless this process finds that it needn't: if it dies before that, its successor does it.

        Returns:
            Numbers, for `release` and `drop`.

        Raises:
            sqlite3.Error: it can't be written.
        """
        numbers = self._store.add(operations, self._now())
        self._held |= set(numbers)
        return numbers

    def release(self, reasons: Mapping[int, str]) -> None:
        """What was held has to be done.

        Args:
            reasons: by number, why it could not be done at once.
        """
        for number, why in reasons.items():
            operation = self._store.failed(number, why, refused=False)
            self._delay(operation.site, resource_key(operation), UNDELIVERED_S)
            self._store.supersede(number)
            LOG.warning("what could not be done at once will be done later: %s", why)
        self._held -= set(reasons)
        self.wake()

    def drop(self, numbers: Iterable[int]) -> None:
        """What was held needn't be done: all of it, or, if this process dies now, nothing of it."""
        gone = set(numbers)
        self._store.done(*gone)
        self._held -= gone
        self.wake()  # something may have come to wait behind it

    def waits(self, site: str, call: Call) -> bool:
        """Whether something about the same resource waits for a site, so that what comes after it has to wait as well."""
        return self._store.first(site, call.service + resource_of(call.path)) is not None

    def list(self) -> list[dict[str, Any]]:
        """What waits, oldest first, for JSON."""
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
        """Nothing waits any more for a site that has left or was revoked."""
        self._store.forget(site)

    def wake(self, *_ignored: object) -> None:
        """Look at once, since a site may have come back; fit for `Mesh.on_members`."""
        self._wake.set()

    async def run(self) -> None:
        """Do what can be done, until cancelled."""
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
        """Close the file; `run` does so when it ends."""
        self._store.close()

    def _begin(self) -> None:
        """Begin to work on each resource that is not being worked on, at sites that can be reached."""
        loop = asyncio.get_running_loop()
        there = {self._sites.here, *self._sites.reachable()}
        for key in self._store.resources():
            if key not in self._running and key[0] in there and loop.time() >= self._not_before.get(key, 0):
                task = self._running[key] = loop.create_task(self._work_off(*key))
                task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("what waits for %s at %s could not be tried", key[1], key[0], exc_info=error)

    async def _work_off(self, site: str, resource: str) -> None:
        """Do all that waits for one resource at one site, in order, up to the first that does not succeed."""
        async with self._slots:
            while (operation := self._store.first(site, resource)) is not None and operation.number not in self._held:
                try:
                    await self._executor.attempt(operation)
                except Unfit as unfit:
                    self._refuse(operation, str(unfit))
                except Later as later:
                    self._store.failed(operation.number, str(later), refused=later.refused)
                    if not later.refused:
                        self._delay(site, resource, UNDELIVERED_S)
                        return
                    if not self._give_up(operation, str(later)):
                        self._delay(site, resource, min(LONGEST_DELAY_S, INTERVAL_S * 2**operation.attempts))
                        return
                else:
                    LOG.info("%s has done it: %s", site, operation)
                    self._store.done(operation.number)
                self._executor.forget(operation)
                self._not_before.pop((site, resource), None)

    def _refuse(self, operation: Operation, why: str) -> None:
        """Give up what does not fit, and tell the operator."""
        LOG.error("%s refuses for good: %s (%s)", operation.site, operation, why)
        kind = f"pending {operation.service} {operation.method}"
        self._conflicts.note(kind, operation.tag or operation.resource.rpartition("/")[2], [self._sites.here, operation.site], why)
        self._store.done(operation.number)

    def _delay(self, site: str, resource: str, seconds: float) -> None:
        self._not_before[site, resource] = asyncio.get_running_loop().time() + seconds

    def _give_up(self, operation: Operation, why: str) -> bool:
        if operation.method == "DELETE" or operation.attempts + 1 < MOST_REFUSALS:
            return False
        LOG.error("%s refuses for good, and differs from the other sites now: %s (%s)", operation.site, operation, why)
        self._store.done(operation.number)
        return True
