"""The two ends of a console: what both can do, and the one that is a WebSocket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import NamedTuple, Protocol

import aiohttp
from aiohttp import WSMsgType, web

MAX_MESSAGE = 1 << 20
"""Bytes of one message; what people type and paste comes in much smaller ones."""

CLOSE_S = 2.0
"""Seconds that the other side has for its part in closing."""

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 60_000}
"""Who acknowledges nothing for a minute is gone. So is who reads nothing for a minute although there is something to be read."""

_SENDABLE = frozenset((1000, 1001, 1008, 1011, 1012, 1013))


class Farewell(NamedTuple):
    """Why a console ends: RFC 6455, section 7.4."""

    code: int = 1000
    text: str = ""


class End(Protocol):
    """One end of a console."""

    farewell: Farewell
    """What it said when it closed."""

    async def read(self) -> bytes:
        """What has come; nothing when it is closed."""

    async def write(self, data: bytes) -> None:
        """Send; returns when there is room for more."""

    async def close(self, farewell: Farewell) -> None:
        """Close it, in good order if the other side takes part in that."""


class Socket:
    """A WebSocket: a client's, or that to the gateway of another site.

    Raises:
        ConnectionResetError: it is closed already.
    """

    def __init__(self, opened: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> None:
        self._socket = opened
        self.farewell = Farewell()
        self._transport_socket = opened.get_extra_info("socket")
        if self._transport_socket is None:
            raise ConnectionResetError("the other side has gone")

    def notice_loss(self) -> None:
        """Have the kernel find out if the other side is gone, instead of waiting for hours."""
        with suppress(OSError):  # it is gone already
            for option, value in _KEEPALIVE.items():
                self._transport_socket.setsockopt(socket.IPPROTO_TCP, option, value)
            self._transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def read(self) -> bytes:
        """See `End`."""
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
        """See `End`."""
        await self._socket.send_bytes(data)

    async def close(self, farewell: Farewell) -> None:
        """See `End`."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code=farewell.code, message=farewell.text.encode("ascii", "replace")[:120])
        except (TimeoutError, ConnectionError, RuntimeError):
            # It reads nothing, so what is still to be sent would be kept for it.
            with suppress(OSError):
                self._transport_socket.shutdown(socket.SHUT_RDWR)
