"""The interface of the two ends of a console, and the end that is a WebSocket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import NamedTuple, Protocol

import aiohttp
from aiohttp import WSMsgType, web

MAX_MESSAGE = 1 << 20
"""Greatest size of one message, in bytes; typed and pasted text comes in much smaller messages."""

CLOSE_S = 2.0
"""Seconds that the other side has to complete the closing handshake."""

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 60_000}
"""Socket options that close a connection whose other side acknowledges nothing, or does not read pending data, for a minute."""

_SENDABLE = frozenset((1000, 1001, 1008, 1011, 1012, 1013))
"""Close codes that are passed on to the other side."""


class Farewell(NamedTuple):
    """The close code and reason of a console (RFC 6455, section 7.4)."""

    code: int = 1000
    text: str = ""


class End(Protocol):
    """One end of a console: the client's, the guest's, or another gateway."""

    farewell: Farewell
    """The close code and reason that the end sent."""

    async def read(self) -> bytes:
        """Return the next bytes; empty if the end is closed."""

    async def write(self, data: bytes) -> None:
        """Send bytes, and return when there is room for more."""

    async def close(self, farewell: Farewell) -> None:
        """Close the end, with a closing handshake if the other side takes part in it."""


class Socket:
    """A WebSocket to a client or to the gateway of another site.

    Args:
        opened: the open WebSocket.

    Raises:
        ConnectionResetError: the WebSocket is closed already.
    """

    def __init__(self, opened: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> None:
        self._socket = opened
        self.farewell = Farewell()
        self._transport_socket = opened.get_extra_info("socket")
        if self._transport_socket is None:
            raise ConnectionResetError("the other side has closed the connection")

    def notice_loss(self) -> None:
        """Set the socket options by which the kernel detects within a minute that the other side is gone."""
        with suppress(OSError):  # the connection is closed already
            for option, value in _KEEPALIVE.items():
                self._transport_socket.setsockopt(socket.IPPROTO_TCP, option, value)
            self._transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def read(self) -> bytes:
        """Return the next bytes; see `End.read`."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.CLOSE:
                code = message.data if message.data in _SENDABLE else 1000
                self.farewell = Farewell(code, message.extra or "")
            data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if message.type not in {WSMsgType.BINARY, WSMsgType.TEXT}:
                return b""
            if data:
                return bytes(data)

    async def write(self, data: bytes) -> None:
        """Send bytes; see `End.write`."""
        await self._socket.send_bytes(data)

    async def close(self, farewell: Farewell) -> None:
        """Close the WebSocket; see `End.close`."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code=farewell.code, message=farewell.text.encode("ascii", "replace")[:120])
        except (TimeoutError, ConnectionError, RuntimeError):
            # The other side reads nothing; without a shutdown, unsent data would be kept for it.
            with suppress(OSError):
                self._transport_socket.shutdown(socket.SHUT_RDWR)
