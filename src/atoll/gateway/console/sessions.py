"""The open consoles of a gateway, which the gateway itself may end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from atoll.gateway.console.ends import Farewell
from atoll.gateway.console.guest_connection import ConsoleEndpoint
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.target import Refused

MAX_PER_SERVER = 8
"""Greatest number of open consoles of one server."""


class Session:
    """A console that is open or about to open.

    Args:
        peer: the other site, which has the server or the client of the console; empty if there is none.
        where: the address of the console; `None` if the server is at the other site.

    Attributes:
        ended: the reason, once the gateway ends the console.
        closed: set when both ends are closed.
    """

    def __init__(self, peer: str, where: ConsoleEndpoint | None) -> None:
        self.peer = peer
        self.where = where
        self.ended: asyncio.Future[Farewell] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    def end(self, code: int, why: str) -> None:
        """End the console soon, with a close code and a reason."""
        if not self.ended.done():
            self.ended.set_result(Farewell(code, why))


class Sessions:
    """The open consoles of one gateway.

    Args:
        here: this site's name.
    """

    def __init__(self, here: str) -> None:
        self._here = here
        self._open: set[Session] = set()
        self._stopping = False

    @contextmanager
    def opened(self, peer: str, where: ConsoleEndpoint | None = None) -> Iterator[Session]:
        """Yield a session that lasts as long as the context.

        Args:
            peer: see `Session`.
            where: see `Session`.

        Raises:
            Refused: the server already has `MAX_PER_SERVER` open consoles.
            Unreachable: the gateway is stopping.
        """
        if self._stopping:
            raise Unreachable(self._here, "its gateway is stopping")
        if where is not None and sum(each.where is not None and each.where.server == where.server for each in self._open) >= MAX_PER_SERVER:
            raise Refused(429, f"the server already has {MAX_PER_SERVER} open consoles, which is the limit: close one of them")
        session = Session(peer, where)
        self._open.add(session)
        try:
            yield session
        finally:
            self._open.discard(session)
            session.closed.set()

    async def take_over(self, where: ConsoleEndpoint) -> None:
        """End the session at an address, because QEMU serves one client at a time and lets others wait silently.

        The new session is preferred, because the client of the old one may have disappeared without closing it.
        """
        while held := next((each for each in self._open if each.where == where), None):
            held.end(1008, "another client has connected to this console")
            await held.closed.wait()

    def cut(self, site: str) -> None:
        """End the sessions to and from a site that is no longer a member."""
        for session in self._open:
            if session.peer == site:
                session.end(1008, f"site {site} is no longer a member of the cloud")

    async def stop(self) -> None:
        """End all sessions, and refuse new ones."""
        self._stopping = True
        sessions = tuple(self._open)
        for session in sessions:
            session.end(1001, "the gateway is stopping")
        await asyncio.gather(*(session.closed.wait() for session in sessions))
