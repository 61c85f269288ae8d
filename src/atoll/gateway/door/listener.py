"""Accepts the connections of a port within limits, and closes those that take too long.

aiohttp's server limits neither the number of connections nor the time that the head of a request takes. This module replaces the accept
loop of `web.SockSite` by one that asks `ClientLimiter` first, so that refusing a connection costs very little. It replaces `RequestHandler`
by a subclass that records the state of the connection.
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

from atoll.gateway.door.client_limiter import Address, ClientLimiter, TooMany
from atoll.gateway.door.limited import LimitedLog

LOG = logging.getLogger(__name__)

SWEEP_S = 1.0
"""Seconds between two checks of all connections."""

WRITE_S = 30.0
"""Seconds within which a client must accept the next piece of an answer."""

_AT_ONCE = 64
"""Number of connections that are accepted before the event loop gets to other work."""

_FULL_S = 0.1
"""Seconds during which no connection is accepted, after the system lacked a descriptor or memory for one."""

_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors by which the system reports that it lacks descriptors or memory."""


class Handler(RequestHandler):
    """The aiohttp handler of one connection.

    Attributes:
        address: the client's address.
        limiter: the limits of the port.
        was_open: whether the connection is or was open; with TLS, whether the handshake succeeded.
        known: whether the client has shown a token or a certificate.
        since: the loop time in seconds since which the connection is idle.
        head_since: the loop time in seconds at which the head of a request began to arrive; 0 if none has.
        write_since: the loop time in seconds at which a piece of an answer was written; 0 if the client has accepted all pieces.
    """

    __slots__ = ("address", "head_since", "known", "limiter", "since", "was_open", "write_since")

    def __init__(self, server: web.Server, address: Address, limiter: ClientLimiter, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.address = address
        self.limiter = limiter
        self.was_open = False
        self.known = False
        self.since = self._loop.time()
        self.head_since = 0.0
        self.write_since = 0.0

    @property
    def busy(self) -> bool:
        """True if a request is being answered."""
        return self._request_in_progress

    def drop(self) -> None:
        """Close the connection immediately."""
        if self.transport is not None:
            self.transport.abort()

    def recognise(self) -> None:
        """Record that the client has shown a token or a certificate."""
        if not self.known:
            self.known = True
            self.limiter.recognised(self.address, self)

    def writes(self, longer_s: float = 0.0) -> None:
        """Record that a piece of an answer was written, which the client may take `WRITE_S` and `longer_s` seconds to accept."""
        self.write_since = self._loop.time() + longer_s

    def wrote(self) -> None:
        """Record that the client has accepted the piece."""
        self.write_since = 0.0

    def request_began(self) -> None:
        """Record that the head of a request has arrived."""
        self.head_since = 0.0

    def request_ended(self) -> None:
        """Record that the connection is idle again."""
        self.since = self._loop.time()
        self.head_since = self.write_since = 0.0

    def overdue(self, now: float) -> bool:
        """Return whether the client exceeds the time limit of the connection's present state."""
        limits = self.limiter.limits
        if self.write_since:
            return now - self.write_since > WRITE_S
        if self._request_in_progress:
            return False
        if self.head_since and now - self.head_since > limits.head_s:
            return True
        return now - self.since > (limits.idle_s if self.known else limits.stranger_idle_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Record that the connection is open; see `asyncio.Protocol`."""
        self.was_open = True
        self.limiter.opened(self.address, self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record that the connection is closed; see `asyncio.Protocol`."""
        if self._manager is not None:
            self.limiter.closed(self.address, self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Record when the head of a request begins to arrive; see `asyncio.Protocol`."""
        if not self.head_since and not self._request_in_progress:
            self.head_since = self._loop.time()
        super().data_received(data)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer a malformed HTTP request and log one line; aiohttp would log a traceback each time."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        with suppress(TooMany):
            self.limiter.ask(self.address, "")
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer has been sent already")
        _REFUSED.warning("refused from %s: malformed HTTP request: %.200r", request.remote, (message or "").partition("\n")[0])
        response = web.Response(status=status, text=f"{(message or 'malformed HTTP request').partition(chr(10))[0]}\n")
        response.force_close()
        return response


_REFUSED = LimitedLog(LOG)


class _Opening:
    """A connection during its TLS handshake.

    Attributes:
        busy: always false: the connection may be closed at any time to make room.
    """

    busy = False

    def __init__(self, task: asyncio.Task[bool]) -> None:
        self._task = task

    def drop(self) -> None:
        """Close the connection immediately."""
        self._task.cancel()


class Listener:
    """Accepts the connections of one listening socket.

    Args:
        server: the aiohttp server that answers requests.
        limiter: the limits of the port.
        tls: the settings of TLS; `None` for plain HTTP.
    """

    def __init__(self, server: web.Server, limiter: ClientLimiter, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._limiter = limiter
        self._tls = tls
        self._listener: socket.socket | None = None
        self._opening: set[asyncio.Task[bool]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self, listener: socket.socket) -> None:
        """Start accepting connections at a listening socket."""
        listener.setblocking(False)
        self._listener = listener
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, self._accept)
        self._sweeper = loop.create_task(self._sweep())

    def close(self) -> None:
        """Stop accepting connections; those that are open stay open."""
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
            address = self._limiter.admit(peer[0])
            if address is None:
                connection.close()
                continue
            task = asyncio.get_running_loop().create_task(self._open(connection, address))
            task.add_done_callback(partial(self._opened, connection, address))
            if self._tls is not None:
                opening = _Opening(task)
                self._limiter.opened(address, opening)
                task.add_done_callback(partial(self._entered, address, opening))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _opened(self, connection: socket.socket, address: Address, task: asyncio.Task[bool]) -> None:
        """Close a connection that did not open; a callback does it because the task may be cancelled before it starts."""
        if task.cancelled() or task.exception() is not None or not task.result():
            connection.close()
            self._limiter.closed(address)

    def _entered(self, address: Address, opening: _Opening, _task: asyncio.Task[bool]) -> None:
        self._limiter.entered(address, opening)

    def _pause(self, error: OSError) -> None:
        """Accept nothing for `_FULL_S`, because the system has no resources for another connection."""
        _REFUSED.warning("can't accept connections: %s", error)
        loop, listener = asyncio.get_running_loop(), self._listener
        assert listener is not None
        loop.remove_reader(listener)
        loop.call_later(_FULL_S, lambda: self._listener is not None and loop.add_reader(self._listener, self._accept))

    async def _open(self, connection: socket.socket, address: Address) -> bool:
        """Open an accepted connection, and return whether it is or was open; if so, its handler records its end."""
        made: list[Handler] = []

        def make() -> Handler:
            made.append(Handler(self._server, address, self._limiter, **self._server._kwargs))
            return made[0]

        timeout = self._limiter.limits.head_s if self._tls is not None else None
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
