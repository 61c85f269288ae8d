"""The competitor: a hub to which every member sends heartbeats, and which sends every member the states of all others.

This is how Kubernetes and KubeEdge know their nodes: each sends the hub a heartbeat in an interval, and the hub answers. To have the
information that a member of a mesh has, members get the states of all others with the first answer, and changes with later ones. Messages
have the sizes of the mesh's own, signature included, but are not signed: their processor time is not compared.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial

from atoll.bench.hollow.links import Network
from atoll.zenoh_link.config import Tls

HEARTBEAT_S = 10.0
"""Seconds between two heartbeats, as between two renewals of a Kubernetes node's lease."""

HUB = "hub"
_FRAME = 115
"""Bytes of a heartbeat or its answer: a sealed probe of the mesh without news."""
_NEWS = 13
"""Bytes of one member's state in an answer."""
_RETRY_S = 2.0
_NO_TLS = Tls("")


@dataclass
class Spoke:
    """A member that knows what the hub has told it.

    Attributes:
        name: the member's name.
        known: the number of the hub's latest change that it has been told.
        answered: an answer of the hub has arrived.
        count: the number of members that it knows to be alive.
    """

    name: str
    known: int = 0
    answered: bool = False
    count: int = 0


@dataclass
class Hub:
    """The hub and its members, over the links of a network.

    Args:
        network: carries the messages.
        names: the members' names.
        rng: source of the members' first moments.
    """

    network: Network
    names: list[str]
    rng: random.Random
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._transport = self.network.transport(HUB, _NO_TLS, self._heard, lambda _name, _up: None, self.rng)
        self._spokes = {name: Spoke(name) for name in self.names}
        self._alive: set[str] = set()
        self._links = {}
        for name in self.names:
            told = partial(self._told, name)
            self._links[name] = self.network.transport(name, _NO_TLS, told, lambda _name, _up: None, self.rng)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect all members to the hub, and start their heartbeats."""
        await self._transport.start("", 0)
        for name, link in self._links.items():
            await link.start("", 0)
            self._transport.connect(name, "", 0)
            link.connect(HUB, "", 0)
        self._tasks = [asyncio.create_task(self._beat(name)) for name in self.names]

    async def stop(self) -> None:
        """End heartbeats and links."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in (self._transport, *self._links.values()):
            await link.stop()

    def converged(self) -> bool:
        """Return whether every member knows all others to be alive."""
        return all(spoke.count == len(self.names) for spoke in self._spokes.values())

    async def _beat(self, name: str) -> None:
        spoke = self._spokes[name]
        await asyncio.sleep(self.rng.uniform(0, _RETRY_S))
        while True:
            self._links[name].send(HUB, name.encode().ljust(_FRAME, b"\0"))
            await asyncio.sleep(HEARTBEAT_S * self.rng.uniform(0.9, 1.1) if spoke.answered else _RETRY_S)

    def _heard(self, data: bytes) -> None:
        name = data.rstrip(b"\0").decode()
        if name not in self._alive:
            self._alive.add(name)
            self.changes.append(name)
        fresh = len(self.changes) - self._spokes[name].known
        self._transport.send(name, len(self.changes).to_bytes(4, "big").ljust(_FRAME + _NEWS * fresh, b"\0"))

    def _told(self, name: str, data: bytes) -> None:
        spoke = self._spokes[name]
        spoke.answered = True
        spoke.known = spoke.count = int.from_bytes(data[:4], "big")
