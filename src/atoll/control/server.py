"""The server of the control protocol, in asyncio."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from atoll.control import sockets
from atoll.control.messages import LINE_LIMIT, Message, decode, encode, failure
from atoll.errors import AtollError

LOG = logging.getLogger("atoll.control")


class HungUpError(Exception):
    """Raised by a handler whose client has hung up: there is nobody to answer."""


class Exchange:
    """One request, with the operations that its handler may use besides returning the result.

    Attributes:
        request: the message.
        sockets: sockets to send with the result; they are closed then, or if the request fails. The handler appends to this list.
        deferred: whether the answer comes only when the server closes.
    """

    def __init__(self, request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.sockets: list[socket.socket] = []
        self.deferred = False
        self._reader, self._writer = reader, writer

    def send(self, event: object) -> None:
        """Send an event, without waiting: the few lines fit into memory, and a client that does not read must not hold up the others."""
        self._writer.write(encode({"event": event}))

    def defer(self) -> None:
        """Answer `null` when the server closes, and leave the connection open until the process ends: the client waits for that."""
        self.deferred = True

    @asynccontextmanager
    async def hang_up(self) -> AsyncIterator[asyncio.Future[bytes]]:
        """Return a future that is done when the client has hung up."""
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            yield gone
        finally:
            gone.cancel()
            # The stream accepts no second reader before the first has been cancelled.
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone


Handler = Callable[[Exchange], Awaitable[Any]]
"""Carries out a request and returns the result, as JSON data; raises AtollError to refuse it."""


class ControlServer:
    """Answers requests; requests on one connection are answered in their order.

    Args:
        path: the path of the socket.
        handlers: the handlers by verb.
        name: the name of the server for messages, such as "the supervisor".
        invalid: the error code for a message that is not a request.
        failed: the error code for a handler that raises anything but AtollError.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], *, name: str, invalid: str, failed: str) -> None:
        self._path, self._handlers, self._name = path, handlers, name
        self._invalid, self._failed = invalid, failed
        self._users = frozenset[int]()
        self._connections: set[asyncio.Task[None]] = set()
        self._deferred: list[asyncio.StreamWriter] = []
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, in place of an older socket at the path.

        Raises:
            OSError: the directory cannot be written to.
        """
        self._users = sockets.trusted_users()
        # Not `start_unix_server`: from Python 3.13 on that looks up the path of the socket, which is another path by then.
        self._listener = await asyncio.start_server(self._serve, sock=sockets.listen(self._path), limit=LINE_LIMIT)

    def close(self) -> None:
        """Stop listening, and answer the deferred requests."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._deferred:
            writer.write(encode({"ok": None}))
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._connections.discard)
        with suppress(ConnectionError, asyncio.CancelledError):  # nobody awaits this task; asyncio would log that it was cancelled
            try:
                while await self._answer(reader, writer):
                    pass
            except AtollError as error:
                writer.write(failure(error))
            finally:
                if writer not in self._deferred:
                    writer.close()

    def _check_user(self, writer: asyncio.StreamWriter) -> None:
        user = sockets.peer_user(writer.get_extra_info("socket"))
        if user not in self._users:
            message = f"user {user} may not use the control socket {self._path}: expected user {os.geteuid()} or root"
            raise AtollError("control.refused", message)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, and return whether another may follow.

        Raises:
            AtollError: the request is too long.
        """
        try:
            line = await reader.readline()
        except ValueError:
            raise AtollError(self._invalid, f"a message to {self._name} has more than {LINE_LIMIT} bytes") from None
        if not line:
            return False
        carried: list[socket.socket] = []
        try:
            self._check_user(writer)  # only now: a client that is hung up on while it sends does not read the answer
            exchange = Exchange(self._request(line), reader, writer)
            carried = exchange.sockets
            answer = encode({"ok": await self._handler(exchange)(exchange)})
        except BaseException as error:
            # Sockets are sent only with a result.
            _close(carried)
            if isinstance(error, HungUpError):
                return False
            answer = self._failure(error)
        else:
            if exchange.deferred:
                _close(carried)
                self._deferred.append(writer)
                return False
        await _send(writer, answer, carried)
        return True

    def _failure(self, error: BaseException) -> bytes:
        """Return the answer for an error of a request; raise an exception that ends the server again."""
        if isinstance(error, AtollError):
            return failure(error)
        if not isinstance(error, Exception):
            raise error
        LOG.error("a request to %s could not be carried out", self._name, exc_info=error)
        return failure(AtollError(self._failed, f"an error of {self._name} itself: {error!r}"))

    def _request(self, line: bytes) -> Message:
        try:
            return decode(line)
        except ValueError as error:
            raise AtollError(self._invalid, f"a message to {self._name} is not valid: {error}") from None

    def _handler(self, exchange: Exchange) -> Handler:
        verb = exchange.request.get("verb")
        handler = self._handlers.get(verb) if isinstance(verb, str) else None
        if handler is None:
            raise AtollError(self._invalid, f"{self._name} does not know the verb {verb!r}")
        return handler


async def _send(writer: asyncio.StreamWriter, answer: bytes, carried: list[socket.socket]) -> None:
    if not carried:
        writer.write(answer)
        await writer.drain()
        return
    try:
        # Nothing else has been written to this connection, so that the short answer fits into its buffer.
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connection:
            socket.send_fds(connection, [answer], [each.fileno() for each in carried])
    finally:
        _close(carried)


def _close(carried: list[socket.socket]) -> None:
    """Close sockets, and empty the list: none of them can be sent any more."""
    while carried:
        carried.pop().close()
