"""The hand-off of a server, at the destination: whether the server may start here, and whether it has.

The source's requests are honoured only for hand-offs of that source, as its certificate proves. `PREPARED` is the source's to revoke. A
commit puts the disk into the place from which nova-compute takes it by one rename (`ArrivalDisks.offer`), and asks Nova for the server with
the user's own token. `REFUSED` is final, and is recorded only when the server can't start any more: it was not committed; or the disk was
withdrawn, or taken by a server that does not exist any more. A creation that Nova carries out after that finds no disk, and fails.

If only the journal was restored from a back-up, it may be older than Nova's databases. So this site asks Nova before it answers that the
server will not start here. If Nova shows the server, the hand-off counts as committed. If this site has no record of the hand-off, and
nova-compute has not taken its disk, the server in Nova may be an older one. Then this site refuses to decide, and an administrator must.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, Protocol

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arrival, Arriving, Journal

LOG = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at a server that is being created."""

ANSWER_S = 20.0
"""Seconds after which a commit is answered although the server is still being created."""

START_S = 900.0
"""Seconds to wait for a server that is being created; after that, its state is checked from time to time."""

LATE_S = 90.0
"""Seconds for which a creation that was not answered may still reach Nova; only then a missing server was not created."""


class Look(StrEnum):
    """The state of a new server, as Nova shows it."""

    MISSING = "missing"
    BUILDING = "building"
    RUNS = "runs"
    """The server has started, whatever its owner has done with it since."""
    ERROR = "error"


class NewServer(Protocol):
    """The server at the destination."""

    async def check(self, wish: Mapping[str, Any], project: str, token: str) -> None:
        """Check that the user may create the server here, as far as this can be known before; raises `HandoffRefused`."""

    async def create(self, arrival: Arrival, token: str) -> None:
        """Ask Nova for the server, with the user's token; raises `HandoffRefused` if Nova refuses, and `Unreachable`."""

    async def look(self, arrival: Arrival) -> tuple[Look, dict[str, Any]]:
        """Return the server's state, and facts for the user; for `Look.ERROR` with the key `reason`."""

    async def delete(self, arrival: Arrival) -> None:
        """Delete the server, and return when it is gone; once more is harmless."""

    async def finish(self, arrival: Arrival) -> None:
        """Stop the server if it was stopped at the source."""


class ArrivalDisks(Protocol):
    """The disks of servers that arrive."""

    def has(self, arrival: Arrival, disk: str) -> bool:
        """Return whether the state with a digest has arrived whole."""

    def offer(self, arrival: Arrival, disk: str) -> None:
        """Put the disk where nova-compute takes it for the server; once more is harmless."""

    def taken(self, arrival: Arrival) -> bool:
        """Return whether nova-compute has taken the disk of this hand-off into its cache."""

    def withdraw(self, arrival: Arrival) -> None:
        """Take the disk away again, unless nova-compute has taken it: then there is nothing to take away."""

    def drop(self, arrival: Arrival) -> None:
        """Delete the files of the hand-off."""


class Incoming:
    """The hand-offs of servers to this site.

    Args:
        journal: the record.
        server: the server at this site.
        disks: see `ArrivalDisks`.
        sleep: waits for a number of seconds.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        server: NewServer,
        disks: ArrivalDisks,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._server = server
        self._disks = disks
        self._sleep = sleep
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, float] = {}  # the times at which creations ended without an answer of Nova

    async def prepare(self, arrival: Arrival, token: str) -> None:
        """Record a server that is to arrive, unless it is recorded already.

        Raises:
            HandoffRefused: the user may not create it here, it is here, or the source says something else than before.
            Unreachable: a service does not answer.
        """
        self._known(arrival)
        await self._server.check(arrival.wish, arrival.project, token)
        if (await self._server.look(arrival))[0] is not Look.MISSING:
            raise HandoffRefused(f"a server {arrival.server} is at this site already, and would be there twice: delete one of them first")
        for other in self._journal.open_arrivals():
            if other.server == arrival.server and other.id != arrival.id and other.state is Arriving.COMMITTED:
                raise HandoffRefused("the server is arriving at this site by another hand-off")
            if (other.server, other.site) == (arrival.server, arrival.site) and other.id != arrival.id:
                self.expire(other)  # the source has given it up: a server leaves by one hand-off at a time
        if self._known(arrival) is None:
            self._journal.arrive(arrival)

    async def commit(self, asked: Arrival, disk: str, token: str) -> Arrival:
        """Have the server started, and return the record after at most `ANSWER_S`.

        Args:
            asked: the hand-off that the source names; its site is that of the source's certificate.
            disk: the digest of the server's disk.
            token: the user's token.

        Raises:
            HandoffRefused: there is no such hand-off: no server has started, and none will. With the status 409, this site can't decide.
            Unreachable: Nova does not answer.
        """
        arrival = self._known(asked)
        if arrival is None or (arrival.state is Arriving.PREPARED and not self._disks.has(arrival, disk)):
            arrival = await self._checked(asked)
        if arrival is None:
            raise HandoffRefused("this site has no record of the hand-off", 404)
        if arrival.state is Arriving.PREPARED:
            if not self._disks.has(arrival, disk):
                return self._refuse(arrival, "the server's disk has not arrived")
            arrival = self._journal.settle(arrival, Arriving.COMMITTED)
        task = self._tasks.get(arrival.id)
        if arrival.state is Arriving.COMMITTED and task is None:
            self._disks.offer(arrival, disk)
            task = self._begin(arrival, self._start(arrival, token))
        if task is not None:
            await asyncio.wait({task}, timeout=ANSWER_S)
        return self._known(asked) or arrival

    async def revoke(self, asked: Arrival) -> Arrival | None:
        """Forbid the start of a server that was not committed, and return the record; `None` if there is none: then nothing can start.

        Raises:
            HandoffRefused: as for `commit`.
            Unreachable: Nova does not answer.
        """
        arrival = await self._checked(asked)
        if arrival is not None and arrival.state is Arriving.PREPARED:
            return self._refuse(arrival, "the hand-off was revoked")
        return arrival

    async def shown(self, asked: Arrival) -> Arrival | None:
        """Return the record of a hand-off; `None` if there is none, and no server.

        Raises:
            HandoffRefused: as for `commit`.
            Unreachable: Nova does not answer.
        """
        return await self._checked(asked)

    def forget(self, identifier: str, site: str) -> None:
        """Remove the record and the files of a hand-off that has ended, if it belongs to this source."""
        arrival = self._known(Arrival(identifier, "", "", site, {}))
        if arrival is not None and arrival.state in {Arriving.STARTED, Arriving.REFUSED}:
            self._disks.drop(arrival)
            self._journal.forget(arrival.id)

    async def settle(self, arrival: Arrival) -> None:
        """Continue a committed hand-off for whose server no task waits, as after a restart of the gateway; call this after `LATE_S`.

        Raises:
            Unreachable: Nova does not answer.
        """
        if arrival.state is Arriving.COMMITTED and arrival.id not in self._tasks:
            await self._begin(arrival, self._again(arrival))

    async def _again(self, arrival: Arrival) -> None:
        await self._conclude(arrival, await self._server.look(arrival), "Nova has no record of the server")

    def expire(self, arrival: Arrival) -> None:
        """Remove the record and the files of a hand-off that its source has abandoned; so a later commit is refused."""
        if arrival.state is Arriving.PREPARED:
            self._disks.drop(arrival)
            self._journal.forget(arrival.id)

    def unsettled(self) -> list[Arrival]:
        """Return the committed hand-offs for whose servers no task waits, and whose request for a server can no longer reach Nova."""
        committed = [each for each in self._journal.open_arrivals() if each.state is Arriving.COMMITTED]
        self._failed = {each.id: self._failed[each.id] for each in committed if each.id in self._failed}
        late = self._clock() - LATE_S
        return [each for each in committed if each.id not in self._tasks and self._failed.get(each.id, late) <= late]

    async def stop(self) -> None:
        """Cancel the waits for servers that are being created."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _known(self, asked: Arrival) -> Arrival | None:
        """Return the record of a hand-off; `None` if there is none.

        Args:
            asked: the hand-off that the source names; a source with an earlier version of Atoll does not name the server.

        Raises:
            HandoffRefused: the hand-off belongs to another source, or its server is not the one that the source names.
        """
        found = self._journal.arrival(asked.id)
        if found is not None and found.site != asked.site:
            raise HandoffRefused("this site has no record of the hand-off", 404)
        if found is not None and asked.server and (found.server, found.project) != (asked.server, asked.project):
            raise HandoffRefused("the hand-off is one of another server")
        return found

    async def _checked(self, asked: Arrival) -> Arrival | None:
        """Return the record of a hand-off after asking Nova for the server; `None` if there is neither a record nor a server.

        If Nova has the server of a prepared hand-off, or nova-compute has taken the disk of an unrecorded one, record it as committed.

        Raises:
            HandoffRefused: Nova has the server, but there is no record, and nova-compute has not taken the disk.
            Unreachable: Nova does not answer.
        """
        arrival = self._known(asked)
        if not asked.server or (arrival is not None and arrival.state is not Arriving.PREPARED):
            return arrival
        look, _facts = await self._server.look(asked)
        arrival = self._known(asked)  # a commit may have come in between
        if look is Look.MISSING or (arrival is not None and arrival.state is not Arriving.PREPARED):
            return arrival
        if arrival is None and not self._disks.taken(asked):
            LOG.warning("hand-off %s of server %s from %s is not recorded, but the server is here", asked.id, asked.server, asked.site)
            why = f"it has a server {asked.server}, but no record of the hand-off, as after a restore"
            raise HandoffRefused(f"{why}: an administrator must delete one of both")
        LOG.warning("hand-off %s: the server %s is here, and the journal is older: it is taken as committed", asked.id, asked.server)
        return self._journal.settle(arrival or asked, Arriving.COMMITTED)

    def _begin(self, arrival: Arrival, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks[arrival.id] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: self._ended(arrival.id, done))
        return task

    def _ended(self, identifier: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(identifier, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.warning("hand-off %s: the start of the server is not known yet: %s", identifier, error)

    async def _start(self, arrival: Arrival, token: str) -> None:
        """Create the server unless it exists, and wait until it has started or can't start.

        Raises:
            Unreachable: Nova does not answer; `settle` continues.
        """
        look, facts = await self._server.look(arrival)
        reason, until = "Nova has no record of the server", self._clock() + START_S
        if look is Look.MISSING:
            self._failed[arrival.id] = self._clock()
            try:
                await self._server.create(arrival, token)
            except HandoffRefused as refused:
                reason = str(refused)
            look, facts = await self._server.look(arrival)
        while look is Look.BUILDING and self._clock() < until:
            await self._sleep(LOOK_S)
            look, facts = await self._server.look(arrival)
        await self._conclude(arrival, (look, facts), reason)

    async def _conclude(self, arrival: Arrival, found: tuple[Look, dict[str, Any]], reason: str) -> None:
        """Record the end of a committed hand-off, if it has one.

        Args:
            arrival: the hand-off.
            found: the server's state, as Nova has just shown it.
            reason: the reason if there is no server.

        Raises:
            Unreachable: Nova does not answer.
        """
        look, facts = found
        if look is Look.BUILDING:
            return
        if look is Look.RUNS:
            await self._server.finish(arrival)
            self._journal.settle(arrival, Arriving.STARTED, result=facts)
            self._disks.drop(arrival)  # the source's request to forget it may be lost
            return
        self._disks.withdraw(arrival)  # from here on, no server can be made from it
        if look is Look.MISSING:
            look, facts = await self._server.look(arrival)  # nova-compute may have taken the disk in between
            if look in {Look.RUNS, Look.BUILDING}:
                return
        if look is Look.ERROR:
            reason = str(facts.get("reason") or "the server could not be started")
            await self._server.delete(arrival)
        self._refuse(arrival, reason)

    def _refuse(self, arrival: Arrival, reason: str) -> Arrival:
        refused = self._journal.settle(arrival, Arriving.REFUSED, reason=reason)
        self._disks.drop(arrival)
        return refused
