"""The hand-off of a server, at the source: the order of its steps, and their continuation after a cut or a crash.

Each step is recorded before its effect (`journal`). The server runs at one site at most, because

- the source starts it again only in `RETURNING`. From `FENCING` and `FENCED`, the destination was never asked to start it; from
  `COMMITTING`, only the destination's answer that it never will leads there;
- the destination starts it only when it is asked to commit (`incoming`), which the source does only in `COMMITTING`, after the server has
  been stopped and locked.

If the destination can't be asked in `COMMITTING`, the server stays stopped until it can be.

A journal that was restored from a back-up may be older than the real state. So a gateway that continues a hand-off (`settle`) asks the
destination in every state before it starts or deletes the server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import ENDED, Arriving, Departure, Journal, Leaving
from atoll.gateway.request.call import Unreachable

LOG = logging.getLogger(__name__)

T = TypeVar("T")

DOWN_S = 30.0
"""Seconds for which a stopped server waits for a destination that can't be reached, before it is started again at the source."""

PATIENCE_S = 600.0
"""Seconds for which the copy of a running server's disk waits for a destination that can't be reached."""

PAUSE_S = 1.0
"""Seconds between two attempts to reach the destination."""

ENOUGH_BYTES = 4 << 20
"""Size of a residue, in bytes, after which the server is stopped for the last one."""

MEMORY = "memory"
"""The field of a server's description with the digest of what its memory depends on (`RESUMES`); missing if no memory is sent."""

MOST_ROUNDS = 6
"""Greatest number of rounds while the server runs."""


@dataclass(frozen=True)
class PeerAnswer:
    """The answer of the destination about a hand-off.

    Attributes:
        state: its state there.
        reason: why the server will not start there.
        result: facts for the user.
    """

    state: Arriving
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """A residue that the destination has applied.

    Attributes:
        length: its size in bytes.
        disk: the digest of the disk that the destination has now.
    """

    length: int
    disk: str


class ServerHere(Protocol):
    """A server at the source, and the source's right to stop it."""

    async def fence(self, departure: Departure) -> None:
        """Lock and stop the server, and return when it is stopped; once more is harmless."""

    async def restart(self, departure: Departure) -> None:
        """Unlock the server, and start it if it ran before; once more is harmless."""

    async def delete(self, departure: Departure) -> None:
        """Delete the server, and return when it is gone; once more is harmless."""

    async def exists(self, departure: Departure) -> bool:
        """Return whether the server is at this site."""


class Destination(Protocol):
    """The requests to the destination's gateway; each raises `Unreachable` if its outcome is unknown."""

    async def prepare(self, departure: Departure, token: str) -> bool:
        """Announce the server, have its creation checked, and return whether the destination resumes its memory."""

    async def commit(self, departure: Departure, token: str) -> PeerAnswer:
        """Have the server started from the disk `departure.disk`, with the user's token; once more is harmless."""

    async def revoke(self, departure: Departure) -> PeerAnswer:
        """Forbid the start of the server, unless it was committed; once more is harmless."""

    async def shown(self, departure: Departure) -> PeerAnswer:
        """Return the destination's state of the hand-off; `REFUSED` also if the destination has neither a record of it nor the server."""

    async def forget(self, departure: Departure) -> None:
        """Have the record of the hand-off removed."""


class Residues(Protocol):
    """The transfer of the server's disk."""

    async def send(self, departure: Departure, *, live: bool) -> Sent:
        """Send what the destination's newest state lacks; `live` if the server may run meanwhile, which bounds the wait for a cut link."""

    async def drop(self, departure: Departure) -> None:
        """Delete the files of the hand-off at this site."""


@dataclass(frozen=True)
class Parts:
    """The parts that a hand-off acts on.

    Attributes:
        journal: the record.
        server: the server at this site.
        destination: the other site.
        residues: the transfer of the disk.
    """

    journal: Journal
    server: ServerHere
    destination: Destination
    residues: Residues


async def patient(
    attempt: Callable[[], Awaitable[T]], patience_s: float, sleep: Callable[[float], Awaitable[None]], clock: Callable[[], float]
) -> T:
    """Return the result of an attempt that is repeated while the destination can't be reached.

    Raises:
        Unreachable: the destination was unreachable for `patience_s` seconds.
    """
    since = clock()
    while True:
        try:
            return await attempt()
        except Unreachable:
            if clock() - since > patience_s:
                raise
            await sleep(PAUSE_S)


class Outgoing:
    """The hand-offs of servers of this site.

    Args:
        parts: see `Parts`.
        sleep: waits for a number of seconds.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, parts: Parts, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = parts
        self._journal = parts.journal
        self._sleep = sleep
        self._clock = clock

    async def carry_out(self, identifier: str, token: str) -> Departure:
        """Carry out a hand-off with the user's token, from the state that was reached.

        Returns:
            The hand-off, in one of the states `ENDED`; or in `COPYING`, if the destination could not be reached for long.

        Raises:
            Unreachable: a service of this site does not answer; the hand-off stays in its state, and `settle` continues it.
        """
        while (departure := self._journal.departure(identifier)).state not in ENDED:
            if departure.state is Leaving.COPYING:
                try:
                    await self._ahead(departure, token)
                except Unreachable as error:
                    return self._journal.move(departure, Leaving.COPYING, reason=str(error))
                except HandoffRefused as refused:
                    await self._give_up(departure, str(refused))
            elif departure.state in {Leaving.FENCING, Leaving.FENCED}:
                await self._last(departure)
            elif departure.state is Leaving.COMMITTING:
                self._note(departure, await self._answered(lambda: self._parts.destination.commit(departure, token)))
            else:
                await self._end(departure)
        return departure

    async def settle(self, identifier: str) -> None:
        """Continue a hand-off that nobody carries out, as after a restart of the gateway, one step without the user's token.

        A server that was fenced and not committed is started again. A committed one is revoked, unless the destination has gone on.

        Raises:
            Unreachable: the destination or a service of this site does not answer, or the destination can't decide; the reason is then
                recorded with a committed hand-off.
        """
        departure = self._journal.departure(identifier)
        destination = self._parts.destination
        if departure.state is Leaving.COMMITTING:
            try:
                self._note(departure, await destination.revoke(departure))
            except Unreachable as error:
                if departure.reason != str(error):
                    self._journal.move(departure, Leaving.COMMITTING, reason=str(error))
                raise
        elif departure.state is Leaving.STARTED:
            await self._confirm(departure, await destination.shown(departure))
        elif departure.state not in {*ENDED, Leaving.COPYING}:
            answer = await destination.shown(departure)
            if answer.state in {Arriving.STARTED, Arriving.COMMITTED}:
                LOG.warning(
                    "hand-off %s is %s, but %s at %s: this journal is older", identifier, departure.state, answer.state, departure.site
                )
                self._journal.move(departure, Leaving.COMMITTING, reason="")
            elif departure.state is not Leaving.RETURNING:
                self._journal.move(departure, Leaving.RETURNING, reason="")
            else:
                await self._end(departure)

    async def _confirm(self, departure: Departure, answer: PeerAnswer) -> None:
        """Delete a server that has started at the destination, unless the destination no longer has it: then this server is the only one.

        Raises:
            Unreachable: the destination has not decided.
        """
        if answer.state is Arriving.STARTED:
            await self._end(departure)
        elif answer.state is not Arriving.REFUSED:
            raise Unreachable(departure.site, f"its state of the hand-off is {answer.state}, and was started before")
        elif await self._parts.server.exists(departure):
            reason = f"{departure.site} had started the server, and has it no more"
            self._journal.move(departure, Leaving.RETURNING, reason=reason, result={})
        else:
            await self._end(departure)

    async def expire(self, identifier: str) -> None:
        """Give up a hand-off whose copy was interrupted and not continued; the server has not been stopped."""
        departure = self._journal.departure(identifier)
        if departure.state is Leaving.COPYING:
            await self._give_up(departure, "the hand-off was interrupted, and nobody has continued it")

    async def _ahead(self, departure: Departure, token: str) -> None:
        """Copy the disk of the running server, until the residue is small or does not shrink any more.

        Raises:
            HandoffRefused: the destination or the source refuses.
            Unreachable: the destination was unreachable for `PATIENCE_S`.
        """
        resumes = await patient(lambda: self._parts.destination.prepare(departure, token), PATIENCE_S, self._sleep, self._clock)
        if departure.wish.get(MEMORY) and not resumes:
            wish = {name: value for name, value in departure.wish.items() if name != MEMORY}
            departure = self._journal.move(departure, Leaving.COPYING, wish=wish)
        before: int | None = None
        for _ in range(MOST_ROUNDS if departure.active else 0):
            length = (await self._parts.residues.send(departure, live=True)).length
            if length <= ENOUGH_BYTES or (before is not None and 2 * length > before):
                break
            before = length
        self._journal.move(departure, Leaving.FENCING, reason="")

    async def _last(self, departure: Departure) -> None:
        """Stop the server, and send the last residue; if that fails, start the server again."""
        try:
            await self._parts.server.fence(departure)
            departure = self._journal.move(departure, Leaving.FENCED)
            sent = await self._parts.residues.send(departure, live=False)
        except HandoffRefused as refused:
            self._journal.move(departure, Leaving.RETURNING, reason=str(refused))
        except Unreachable as error:
            if error.site != departure.site:
                raise
            LOG.info("hand-off %s: %s; server %s is started again until it can be reached", departure.id, error, departure.server)
            self._journal.move(departure, Leaving.RETURNING, reason="")
        else:
            self._journal.move(departure, Leaving.COMMITTING, disk=sent.disk)

    def _note(self, departure: Departure, answer: PeerAnswer) -> None:
        """Record the destination's answer to a commit or a revocation; `COMMITTED` and `PREPARED` change nothing."""
        if answer.state is Arriving.STARTED:
            self._journal.move(departure, Leaving.STARTED, reason="", result=answer.result)
        elif answer.state is Arriving.REFUSED:
            self._journal.move(departure, Leaving.RETURNING, reason=answer.reason or "the hand-off was interrupted")

    async def _end(self, departure: Departure) -> None:
        if departure.state is Leaving.STARTED:
            await self._parts.server.delete(departure)
            await self._clean(departure)
            self._journal.move(departure, Leaving.DONE)
        elif departure.state is Leaving.RETURNING:
            await self._parts.server.restart(departure)
            if departure.reason:
                await self._give_up(departure, departure.reason)
            else:
                self._journal.move(departure, Leaving.COPYING)

    async def _give_up(self, departure: Departure, reason: str) -> None:
        """End a hand-off whose server is here and was never committed, or whose commitment the destination has refused."""
        with suppress(Unreachable):
            answer = await self._parts.destination.revoke(departure)
            if answer.state in {Arriving.STARTED, Arriving.COMMITTED}:  # it was never committed, so this journal is older
                reason = f"{departure.site} has started the server by this hand-off already, of which this site has an older record"
                await self._parts.residues.drop(departure)
                self._journal.move(departure, Leaving.FAILED, reason=reason)
                return
        await self._clean(departure)
        self._journal.move(departure, Leaving.FAILED, reason=reason)

    async def _clean(self, departure: Departure) -> None:
        with suppress(Unreachable):
            await self._parts.destination.forget(departure)
        await self._parts.residues.drop(departure)

    async def _answered(self, attempt: Callable[[], Awaitable[PeerAnswer]]) -> PeerAnswer:
        """Return the destination's answer that decides: `STARTED` or `REFUSED`. It may take as long as the destination is cut off."""
        while True:
            with suppress(Unreachable):
                answer = await attempt()
                if answer.state in {Arriving.STARTED, Arriving.REFUSED}:
                    return answer
            await self._sleep(PAUSE_S)
