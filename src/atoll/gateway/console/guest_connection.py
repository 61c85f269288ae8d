"""The guest's end of a console: a TCP connection to its hypervisor."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from atoll.gateway.console.ends import CLOSE_S, Farewell
from atoll.gateway.request.target import Refused

LOG = logging.getLogger(__name__)

CHUNK = 64 << 10
"""Greatest number of bytes of one read."""

CONNECT_S = 5.0
"""Seconds to connect to a console."""


@dataclass(frozen=True)
class ConsoleEndpoint:
    """The address of a server's console.

    Attributes:
        host: the IP address.
        port: the TCP port.
        path: the path of the CONNECT request that a hypervisor with one port for all consoles expects; empty for any other.
        server: the server's id.
    """

    host: str
    port: int
    path: str
    server: str


class GuestConnection:
    """A TCP connection to a guest's console."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.farewell = Farewell(1000, "the guest's end of the console is closed")

    async def read(self) -> bytes:
        """Return the next bytes; see `End.read`."""
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send bytes; see `End.write`."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self, _farewell: Farewell) -> None:
        """Close the connection; see `End.close`."""
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()


async def connect(where: ConsoleEndpoint) -> GuestConnection:
    """Return a new connection to a console.

    Raises:
        Refused: nothing answers at the console's address.
    """
    line = None
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(where.host, where.port, limit=CHUNK)
            line = GuestConnection(reader, writer)
            if where.path:
                await _ask_for(where.path, reader, writer)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        if line is not None:
            await line.close(line.farewell)
        LOG.warning("the console of server %s at %s port %s: %s", where.server, where.host, where.port, error or type(error).__name__)
        raise Refused(502, "the server's console does not answer at its address") from error
    return line


async def _ask_for(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the CONNECT request of hypervisors that have one port for all consoles.

    Raises:
        ValueError: the path is malformed, or the hypervisor refuses it.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("the path of the console is malformed")
    writer.write(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    if b"200" not in answer.split(b"\r\n", 1)[0]:
        raise ValueError("the hypervisor refuses the path of the console")
