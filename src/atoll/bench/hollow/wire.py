"""The bytes that a real link, Zenoh over TLS, adds to a message on the wire: measured between two transports on the loopback interface."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.failure import failed
from atoll.bench.workspace import HOST, free_ports
from atoll.mesh.certificates import CertificateAuthority
from atoll.mesh.transport import LEASE_S, Transport
from atoll.zenoh_link.config import Tls
from atoll.zenoh_link.linger import connections

_MESSAGES = 50
_PAYLOAD = 120
_SPACING_S = 0.02
_PATIENCE_S = 20.0
_TCP_INFO_BYTES = 192
_BYTES_ACKED = struct.Struct("=Q")
_SEGMENTS = struct.Struct("=II")
_AT_BYTES_ACKED, _AT_SEGMENTS = 120, 136
"""Offsets of tcpi_bytes_acked, and of tcpi_segs_out with tcpi_segs_in, in the kernel's struct tcp_info."""

_HEADERS = 52
"""Bytes of the headers of IPv4 and of TCP with timestamps."""
_KEEP_ALIVE = 26
"""Bytes of TLS's record with a keep-alive of Zenoh."""


@dataclass(frozen=True)
class WireCost:
    """The cost of a link on the wire.

    Attributes:
        per_message: bytes beside the payload in the direction of the message: Zenoh, TLS, TCP and IP.
        per_answer: bytes in the other direction: TCP's acknowledgement.
        keep_alive_bits_s: bits per second in each direction of an idle link: a keep-alive, and the acknowledgement of the other's, four
            times in a lease. Zenoh sends none while messages flow, so this is an upper bound.
    """

    per_message: float
    per_answer: float
    keep_alive_bits_s: float = 8 * (_KEEP_ALIVE + 2 * _HEADERS) / (LEASE_S / 4)


async def measure(directory: Path, authority: CertificateAuthority) -> WireCost:
    """Send messages over a real link, and read the kernel's counters of its sockets.

    Args:
        directory: an existing directory for two certificates.
        authority: issues them.

    Raises:
        AtollError: `bench.failed`: the link did not come up or did not carry the messages.
    """
    got: list[bytes] = []
    up = asyncio.Event()
    transports = []
    ports = free_ports(2, step=1)
    for name in ("from", "to"):
        home = directory / name
        authority.certify(home, name, HOST)
        tls = Tls(str(home / "ca.pem"), str(home / "cert.pem"), str(home / "key.pem"))
        transports.append(Transport(name, tls, got.append, lambda _name, _up: up.set(), random.Random(0)))
    sender, receiver = transports
    try:
        for transport, port in zip(transports, ports, strict=True):
            await transport.start(HOST, port)
        sender.connect("to", HOST, ports[1])
        async with asyncio.timeout(_PATIENCE_S):
            await up.wait()
            return await _send(sender, got, ports[1])
    except TimeoutError:
        raise failed("a link between two transports did not carry messages") from None
    finally:
        await asyncio.gather(sender.stop(), receiver.stop())


async def _send(sender: Transport, got: list[bytes], port: int) -> WireCost:
    sender.send("to", b"first")
    while not got:
        await asyncio.sleep(_SPACING_S)
    await asyncio.sleep(0.3)
    acked, out, back = _counters(port)
    for _ in range(_MESSAGES):
        sender.send("to", bytes(_PAYLOAD))
        await asyncio.sleep(_SPACING_S)
    while len(got) <= _MESSAGES:
        await asyncio.sleep(_SPACING_S)
    await asyncio.sleep(0.3)
    after, after_out, after_back = _counters(port)
    bytes_out = (after - acked + _HEADERS * (after_out - out)) / _MESSAGES
    return WireCost(round(bytes_out - _PAYLOAD, 1), round(_HEADERS * (after_back - back) / _MESSAGES, 1))


def _counters(port: int) -> tuple[int, int, int]:
    """Return the acknowledged bytes, and the segments out and in, of this process's connection to a port."""
    for connection in connections():
        try:
            if connection.getpeername()[1] != port:
                continue
        except OSError:  # it listens
            continue
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return (*_BYTES_ACKED.unpack_from(info, _AT_BYTES_ACKED), *_SEGMENTS.unpack_from(info, _AT_SEGMENTS))
    raise failed("the connection of a link was not found")
