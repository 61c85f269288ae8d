"""A port: accepts connections within limits, and closes those that take too long.

aiohttp's server has no limit of connections, nor of the time that the head of a request takes. Replaced: the accept loop of `web.SockSite`,
by one that asks `Visitors` first, so that a connection that is refused costs next to nothing; and `RequestHandler`, by a subclass that
notes what the connection waits for.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from atoll.gateway.door.limited import LimitedLog
from atoll.gateway.door.visitors import Address, TooMany, Visitors

LOG = logging.getLogger(__name__)

SWEEP_S = 1.0
"""Seconds between two looks at all connections."""

WRITE_S = 30.0
"""Seconds in which a client takes the next piece of an answer."""

_AT_ONCE = 64
_FULL_S = 0.1
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Handler(RequestHandler):
    """One connection.

    Attributes:
        address: where it is from.
        visitors: which it belongs to.
        was_open: whether it is or was open: for TLS, whether the handshake succeeded.
        known: whether it has shown a token or a certificate.
        since: when it became idle, loop seconds.
        head_since: when the head of a request began to arrive; 0 if none has.
        write_since: when a piece of an answer was given to be sent; 0 if none is on its way.
    """

    __slots__ = ("address", "head_since", "known", "since", "visitors", "was_open", "write_since")

    def __init__(self, server: web.Server, address: Address, visitors: Visitors, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.address = address
        self.visitors = visitors
        self.was_open = False
        self.known = False
        self.since = self._loop.time()
        self.head_since = 0.0
        self.write_since = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._request_in_progress

    def drop(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    def recognise(self) -> None:
        """Note that it has shown a token or a certificate."""
        if not self.known:
            self.known = True
            self.visitors.recognised(self.address, self)

    def writes(self, longer_s: float = 0.0) -> None:
        """Note that something was given to be sent, for which the client may take so many seconds longer than for a piece."""
        self.write_since = self._loop.time() + longer_s

    def wrote(self) -> None:
        """Note that it was sent."""
        self.write_since = 0.0

    def request_began(self) -> None:
        """Note that the head of a request has arrived."""
        self.head_since = 0.0

    def request_ended(self) -> None:
        """Note that it is idle again."""
        self.since = self._loop.time()
        self.head_since = self.write_since = 0.0

    def overdue(self, now: float) -> bool:
        """Return whether it takes too long."""
        limits = self.visitors.limits
        if self.write_since:
            return now - self.write_since > WRITE_S
        if self._request_in_progress:
            return False
        if self.head_since and now - self.head_since > limits.head_s:
            return True
        return now - self.since > (limits.idle_s if self.known else limits.stranger_idle_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.was_open = True
        self.visitors.opened(self.address, self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        if self._manager is not None:
            self.visitors.closed(self.address, self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self.head_since and not self._request_in_progress:
            self.head_since = self._loop.time()
        super().data_received(data)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP in one line, which upstream would log with a traceback each time."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        with suppress(TooMany):
            self.visitors.ask(self.address, "")
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        _REFUSED.warning("refused from %s: no HTTP request: %.200r", request.remote, (message or "").partition("\n")[0])
        response = web.Response(status=status, text=f"{(message or 'no HTTP request').partition(chr(10))[0]}\n")
        response.force_close()
        return response


_REFUSED = LimitedLog(LOG)


class _Opening:
    """A connection whose TLS handshake is under way.

    Attributes:
        busy: never; it makes room for another at any time.
    """

    busy = False

    def __init__(self, task: asyncio.Task[bool]) -> None:
        self._task = task

    def drop(self) -> None:
        """Close it at once."""
        self._task.cancel()


class Door:
    """The connections of one listening socket.

    Args:
        server: aiohttp's, which answers.
        visitors: says who may come in.
        tls: `None` for plain HTTP.
    """

    def __init__(self, server: web.Server, visitors: Visitors, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._visitors = visitors
        self._tls = tls
        self._listener: socket.socket | None = None
        self._opening: set[asyncio.Task[bool]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        listener.setblocking(False)
        self._listener = listener
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, self._accept)
        self._sweeper = loop.create_task(self._sweep())

    def close(self) -> None:
        """Accept no more; connections that are open stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in (*self._opening, *([self._sweeper] if self._sweeper else [])):
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._listener is None:
                return
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(error)
                return
            address = self._visitors.admit(peer[0])
            if address is None:
                connection.close()
                continue
            task = asyncio.get_running_loop().create_task(self._open(connection, address))
            task.add_done_callback(partial(self._opened, connection, address))
            if self._tls is not None:
                opening = _Opening(task)
                self._visitors.opened(address, opening)
                task.add_done_callback(partial(self._entered, address, opening))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _opened(self, connection: socket.socket, address: Address, task: asyncio.Task[bool]) -> None:
        """Note a connection that did not become one. Its task may have been cancelled before it began, so the task itself can't."""
        if task.cancelled() or task.exception() is not None or not task.result():
            connection.close()
            self._visitors.closed(address)

    def _entered(self, address: Address, opening: _Opening, _task: asyncio.Task[bool]) -> None:
        self._visitors.entered(address, opening)

    def _pause(self, error: OSError) -> None:
        """Wait for a moment: there are no descriptors for another connection."""
        _REFUSED.warning("no connection can be accepted: %s", error)
        loop, listener = asyncio.get_running_loop(), self._listener
        assert listener is not None
        loop.remove_reader(listener)
        loop.call_later(_FULL_S, lambda: self._listener is not None and loop.add_reader(self._listener, self._accept))

    async def _open(self, connection: socket.socket, address: Address) -> bool:
        """Begin with a connection, and return whether it is open, or was: its handler notes its end then."""
        made: list[Handler] = []

        def make() -> Handler:
            made.append(Handler(self._server, address, self._visitors, **self._server._kwargs))
            return made[0]

        timeout = self._visitors.limits.head_s if self._tls is not None else None
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.get_running_loop().connect_accepted_socket(make, connection, ssl=self._tls, ssl_handshake_timeout=timeout)
            return True
        connection.close()
        return bool(made) and made[0].was_open

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for handler in self._server.connections:
                if isinstance(handler, Handler) and handler.overdue(now):
                    handler.drop()
