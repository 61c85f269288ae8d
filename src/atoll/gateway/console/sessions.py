"""Which consoles are open, and how they are ended by others than their two ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from atoll.gateway.console.ends import Farewell
from atoll.gateway.console.line import Where
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.target import Refused

MOST = 8
"""Consoles of one server that may be open at once."""


class Session:
    """A console that is open, or about to be.

    Args:
        peer: the other site that it goes to or comes from; empty if there is none.
        where: the guest's end; None if that is at the other site.

    Attributes:
        ended: is done when it has to end, and says why.
        closed: is set when it has ended.
    """

    def __init__(self, peer: str, where: Where | None) -> None:
        self.peer = peer
        self.where = where
        self.ended: asyncio.Future[Farewell] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    def end(self, code: int, why: str) -> None:
        """Have it end, soon."""
        if not self.ended.done():
            self.ended.set_result(Farewell(code, why))


class Sessions:
    """The consoles of one gateway.

    Args:
        here: the site's name.
    """

    def __init__(self, here: str) -> None:
        self._here = here
        self._open: set[Session] = set()
        self._stopping = False

    @contextmanager
    def opened(self, peer: str, where: Where | None = None) -> Iterator[Session]:
        """A console, open while the context lasts.

        Raises:
            Refused: the server has enough of them.
            Unreachable: the gateway stops.
        """
        if self._stopping:
            raise Unreachable(self._here, "its gateway stops")
        if where is not None and sum(each.where is not None and each.where.server == where.server for each in self._open) >= MOST:
            raise Refused(429, f"{MOST} consoles of the server are open already: close one")
        session = Session(peer, where)
        self._open.add(session)
        try:
            yield session
        finally:
            self._open.discard(session)
            session.closed.set()

    async def take_over(self, where: Where) -> None:
        """End whoever is connected there: QEMU lets in one at a time, and others wait without a word.

        A new session is more likely to be that of somebody who is there than one whose client may have gone without goodbye.
        """
        while held := next((each for each in self._open if each.where == where), None):
            held.end(1008, "somebody else has connected to this console")
            await held.closed.wait()

    def cut(self, site: str) -> None:
        """End what goes to or comes from a site that is a member no more."""
        for session in self._open:
            if session.peer == site:
                session.end(1008, f"site {site} is no more a member of the cloud")

    async def stop(self) -> None:
        """End all of them, and let no more begin."""
        self._stopping = True
        sessions = tuple(self._open)
        for session in sessions:
            session.end(1001, "the gateway stops")
        await asyncio.gather(*(session.closed.wait() for session in sessions))
