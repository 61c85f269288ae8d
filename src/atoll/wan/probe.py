"""Measurement of round trips between sites without running programs in them: one UDP socket in each site, and one loop over all sockets."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Pair = tuple[str, str]

_MESSAGE = struct.Struct("!BIIQ")  # question or answer; number of the pair; number of the packet; time of sending, in nanoseconds
_QUESTION, _ANSWER = 0, 1


def open_socket(address: str) -> socket.socket:
    """Return a UDP socket in the network of the calling thread."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((address, 0))
    return made


class Echo(NamedTuple):
    """The result of one packet.

    Attributes:
        sent_s: time of sending, in seconds of the monotonic clock.
        rtt_ms: round trip in milliseconds; `None` if the packet was lost.
    """

    sent_s: float
    rtt_ms: float | None


class Probe:
    """A measurement: sites send packets to other sites, which return them.

    Args:
        sockets: the sockets of the sites, by name.
        pairs: first and second site of each measurement.
        count: number of packets of each pair.
        interval_s: seconds between two packets of a pair.
    """

    def __init__(self, sockets: Mapping[str, socket.socket], pairs: Sequence[Pair], count: int, interval_s: float) -> None:
        self._sockets, self._pairs = sockets, pairs
        self._addresses = {site: each.getsockname() for site, each in sockets.items()}
        step = interval_s / max(1, len(pairs))  # spread the packets over the interval, so that pairs do not delay one another
        self._schedule = sorted((turn * interval_s + index * step, index, turn) for turn in range(count) for index in range(len(pairs)))
        self.echoes: dict[Pair, list[Echo]] = {pair: [Echo(0.0, None)] * count for pair in pairs}
        self._missing = count * len(pairs)

    def run(self, patience_s: float) -> dict[Pair, list[Echo]]:
        """Send all packets, wait for the answers, and return the results of each pair in the order sent.

        Args:
            patience_s: seconds to wait after the last packet.
        """
        begun, position = time.monotonic(), 0
        with selectors.DefaultSelector() as selector:
            for each in self._sockets.values():
                selector.register(each, selectors.EVENT_READ)
            end = begun + self._schedule[-1][0] + patience_s
            while self._missing and time.monotonic() < end:
                while position < len(self._schedule) and begun + self._schedule[position][0] <= time.monotonic():
                    self._ask(*self._schedule[position][1:])
                    position += 1
                due = begun + self._schedule[position][0] if position < len(self._schedule) else end
                for key, _events in selector.select(max(0.0, due - time.monotonic())):
                    assert isinstance(key.fileobj, socket.socket)
                    self._receive(key.fileobj)
        return self.echoes

    def _ask(self, index: int, turn: int) -> None:
        start, end = self._pairs[index]
        now_ns = time.monotonic_ns()
        self.echoes[start, end][turn] = Echo(now_ns / 1e9, None)
        message = _MESSAGE.pack(_QUESTION, index, turn, now_ns)
        try:
            self._sockets[start].sendto(message, self._addresses[end])
        except OSError:  # an unreachable site is recorded as a lost packet
            return

    def _receive(self, at: socket.socket) -> None:
        while True:
            try:
                message, address = at.recvfrom(_MESSAGE.size)
                kind, index, turn, sent_ns = _MESSAGE.unpack(message)
                if kind == _QUESTION:
                    at.sendto(_MESSAGE.pack(_ANSWER, index, turn, sent_ns), address)
                    continue
            except (OSError, struct.error):
                return
            self._note(index, turn, (time.monotonic_ns() - sent_ns) / 1e6)

    def _note(self, index: int, turn: int, rtt_ms: float) -> None:
        echoes = self.echoes[self._pairs[index]]
        if echoes[turn].rtt_ms is None:
            echoes[turn] = echoes[turn]._replace(rtt_ms=rtt_ms)
            self._missing -= 1
