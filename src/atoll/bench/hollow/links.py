"""The links of hollow members: in memory, in place of Zenoh over TLS, with a delay, and with counters of what they would put on the wire.

Everything above a link is the mesh's own code. A real link costs both of its ends some 0.4 MB and 6 ms of processor time, so that the
thousands of links of 1,000 members do not fit one machine. `wire` measures the bytes that a real link adds to each message.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.mesh.transport import Traffic
from atoll.zenoh_link.config import Tls

_CONNECT_TRIPS = 4
"""Round trips until a link is up: TCP, TLS and Zenoh's opening."""
_PROBE_S = 1.5
_PAUSE_S = 0.7
"""Seconds of an attempt to connect that fails, and of the pause after it, as of a real link."""


@dataclass
class Counters:
    """Counters of all links together.

    Attributes:
        messages: the number of messages sent.
        payload: their bytes.
        links: the number of links that came up.
        attempts: the number of attempts to connect that failed.
    """

    messages: int = 0
    payload: int = 0
    links: int = 0
    attempts: int = 0


class Network:
    """The network between hollow members of this process.

    Args:
        delay_s: the one-way delay in seconds.

    Attributes:
        counters: what all links have carried.
        sent: the number of messages and of bytes that each member has sent, by its name.
        received: the same for what it has received.
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.counters = Counters()
        self.sent: dict[str, list[int]] = {}
        self.received: dict[str, list[int]] = {}
        self._members: dict[str, HollowTransport] = {}
        self._cut = False

    def transport(
        self, name: str, tls: Tls, on_message: Callable[[bytes], None], on_link: Callable[[str, bool], None], rng: random.Random
    ) -> Any:
        """Return a member's links (`mesh.transport.MakeTransport`)."""
        del tls
        return HollowTransport(self, name, on_message, on_link, rng)

    def cut(self) -> None:
        """Lose all messages from now on, as if every cable was cut."""
        self._cut = True

    def heal(self) -> None:
        """Carry messages again from now on."""
        self._cut = False

    def join(self, member: HollowTransport) -> None:
        """Let a member listen."""
        self._members[member.name] = member
        self.sent.setdefault(member.name, [0, 0])
        self.received.setdefault(member.name, [0, 0])

    def leave(self, member: HollowTransport) -> None:
        """End a member's listening."""
        self._members.pop(member.name, None)

    def answers(self, name: str) -> bool:
        """Return whether an attempt to connect to a member would succeed."""
        return not self._cut and name in self._members

    def carry(self, sender: str, receiver: str, data: bytes) -> None:
        """Carry a message, or lose it."""
        _count(self.sent[sender], data)
        self.counters.messages += 1
        self.counters.payload += len(data)
        if self.answers(receiver):
            asyncio.get_running_loop().call_later(self.delay_s, self._deliver, receiver, data)

    def _deliver(self, receiver: str, data: bytes) -> None:
        member = self._members.get(receiver)
        if member is not None and not self._cut:
            _count(self.received[receiver], data)
            member.take(data)


def _count(counters: list[int], data: bytes) -> None:
    counters[0] += 1
    counters[1] += len(data)


class HollowTransport:
    """The links of one member, with the interface of `mesh.transport.Transport`."""

    def __init__(
        self, network: Network, name: str, on_message: Callable[[bytes], None], on_link: Callable[[str, bool], None], rng: random.Random
    ) -> None:
        self.name = name
        self.traffic = Traffic()
        self._network = network
        self._on_message = on_message
        self._on_link = on_link
        self._rng = rng
        self._up: set[str] = set()
        self._attempts: dict[str, asyncio.TimerHandle] = {}

    async def start(self, _host: str, _port: int) -> None:
        """Let others connect to this member."""
        self._network.join(self)

    async def stop(self) -> None:
        """End all links of this member."""
        self._network.leave(self)
        for name in [*self._up, *self._attempts]:
            self.disconnect(name)

    def connect(self, name: str, _host: str, _port: int) -> None:
        """Connect to a member, and reconnect until `disconnect`."""
        if name not in self._up and name not in self._attempts:
            self._try(name)

    def disconnect(self, name: str) -> None:
        """End the link to a member."""
        self._up.discard(name)
        if (attempt := self._attempts.pop(name, None)) is not None:
            attempt.cancel()

    def renew(self, name: str) -> None:
        """Replace the link to a member, or try to connect at once if there is none."""
        if name in self._up:
            self._up.discard(name)
            self._on_link(name, False)
        elif (attempt := self._attempts.pop(name, None)) is not None:
            attempt.cancel()
        else:
            return
        self._try(name)

    def linked(self, name: str) -> bool:
        """Return whether the link to a member is up."""
        return name in self._up

    def send(self, name: str, data: bytes) -> bool:
        """Send a message; return False if there is no link."""
        if name not in self._up:
            return False
        self.traffic.sent += len(data)
        self._network.carry(self.name, name, data)
        return True

    queue = send

    def take(self, data: bytes) -> None:
        """Hand a received message to the node."""
        self.traffic.received += len(data)
        self._on_message(data)

    def _try(self, name: str) -> None:
        answers = self._network.answers(name)
        seconds = 2 * _CONNECT_TRIPS * self._network.delay_s if answers else _PROBE_S + _PAUSE_S * self._rng.uniform(0.7, 1.3)
        self._attempts[name] = asyncio.get_running_loop().call_later(seconds, self._tried, name, answers)

    def _tried(self, name: str, answered: bool) -> None:
        self._attempts.pop(name, None)
        if not (answered and self._network.answers(name)):
            self._network.counters.attempts += 1
            self._try(name)
            return
        self._network.counters.links += 1
        self._up.add(name)
        self._on_link(name, True)
