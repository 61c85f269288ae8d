"""What a topology comes to: nodes, what each direction of each link does to packets, and the ways through it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any

RANGE = IPv4Network("10.77.0.0/16")
"""Of the addresses of sites and routers: the first of each 256. It exists in their namespaces only."""

Ends = tuple[str, str]
"""From which node to which."""

_HOP_MS = 1e-6  # of two ways that take equally long, the one with fewer hops is taken


def address_of(number: int) -> IPv4Address:
    """The address of the site or router with this number, 0 to 255."""
    return RANGE.network_address + (number << 8) + 1


def outside_of(address: str) -> str:
    """The address of a site on its external network, with the prefix: the upper half of the addresses that packets find their way to."""
    return f"{IPv4Address(address) + 128}/25"


def number_of(address: str) -> int | None:
    """The reverse; None if no site can have this address."""
    value = IPv4Address(address)
    return int(value) >> 8 & 0xFF if value in RANGE and int(value) & 0xFF == 1 else None


@dataclass(frozen=True)
class Wire:
    """One direction of a link.

    Attributes:
        delay_ms: one way, in milliseconds.
        jitter_ms: the delay varies uniformly by up to this, up and down; the order of packets is kept.
        rate_mbit: megabits (10^6) of IP packets per second; None is unlimited.
        loss: probability, 0 to 1.
        reorder: probability that a packet skips the delay, and so overtakes others.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_mbit: float | None = None
    loss: float = 0.0
    reorder: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True)
class Node:
    """A place that links lead to.

    Attributes:
        name: of the site or of the router.
        site: False for a router, which only forwards.
        location: latitude and longitude in degrees; None if unknown.
        address: the IPv4 address of a site, `10.77.N.1`; None: one that is free.
    """

    name: str
    site: bool = True
    location: tuple[float, float] | None = None
    address: str | None = None


@dataclass(frozen=True)
class Network:
    """A topology, expanded.

    Attributes:
        nodes: the sites in the order of the cloud's file, then the routers.
        wires: both directions of every link.
    """

    nodes: tuple[Node, ...]
    wires: Mapping[Ends, Wire] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites."""
        return tuple(node.name for node in self.nodes if node.site)

    @property
    def links(self) -> tuple[Ends, ...]:
        """Each link once, its ends in the order of the nodes."""
        order = {node.name: index for index, node in enumerate(self.nodes)}
        pairs = {tuple(sorted(ends, key=order.__getitem__)) for ends in self.wires}
        return tuple(sorted(((a, b) for a, b in pairs), key=lambda ends: (order[ends[0]], order[ends[1]])))

    @cached_property
    def next_hops(self) -> dict[Ends, str]:
        """By node and destination: the neighbour that a packet goes to next.

        Between neighbours that is their link, even where a detour would be faster: what is asked for between two sites is what they get.
        Else it is the way that takes least time.
        """
        names = [node.name for node in self.nodes]
        return {(node, destination): hop for destination in names for node, hop in self._towards(destination).items()}

    def _towards(self, destination: str) -> dict[str, str]:
        """Dijkstra's algorithm, backwards, where the neighbours of the destination are fixed: they take their link to it."""
        arriving: dict[str, list[tuple[str, float]]] = {}
        for (start, end), wire in self.wires.items():
            arriving.setdefault(end, []).append((start, wire.delay_ms + _HOP_MS))
        best = dict(arriving.get(destination, ()))
        hops = dict.fromkeys(best, destination)
        queue = [(cost, node) for node, cost in best.items()]
        heapq.heapify(queue)
        done = {destination}
        while queue:
            cost, node = heapq.heappop(queue)
            if node in done:
                continue
            done.add(node)
            for start, step in sorted(arriving.get(node, ())):
                if start not in done and hops.get(start) != destination and cost + step < best.get(start, float("inf")):
                    best[start], hops[start] = cost + step, node
                    heapq.heappush(queue, (cost + step, start))
        return hops

    def path(self, start: str, end: str) -> tuple[Ends, ...] | None:
        """The wires that a packet takes; None if there is no way."""
        steps = []
        while start != end:
            hop = self.next_hops.get((start, end))
            if hop is None:
                return None
            steps.append((start, hop))
            start = hop
        return tuple(steps)

    def delay_ms(self, start: str, end: str) -> float | None:
        """How long a packet takes from one node to another, without jitter and queues; None if there is no way."""
        path = self.path(start, end)
        return None if path is None else sum(self.wires[step].delay_ms for step in path)

    def rtt_ms(self, start: str, end: str) -> float | None:
        """The round trip; None if there is no way there or back."""
        there, back = self.delay_ms(start, end), self.delay_ms(end, start)
        return None if there is None or back is None else there + back

    def unreachable(self) -> Ends | None:
        """Two sites with no way from the one to the other; None if there are none such."""
        pairs = ((start, end) for start in self.sites for end in self.sites)
        return next(((start, end) for start, end in pairs if start != end and (start, end) not in self.next_hops), None)

    def without(self, gone: Iterable[Ends]) -> Network:
        """The same without some wires."""
        dropped = set(gone)
        return Network(self.nodes, {ends: wire for ends, wire in self.wires.items() if ends not in dropped})

    def to_json(self) -> dict[str, Any]:
        """Nodes and wires, ready for `json.dumps`."""
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "wires": [{"from": start, "to": end, **wire.to_json()} for (start, end), wire in self.wires.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Network:
        """The reverse of `to_json`."""
        nodes = tuple(
            Node(item["name"], item["site"], tuple(item["location"]) if item["location"] else None, item.get("address"))
            for item in data["nodes"]
        )
        fields = Wire.__dataclass_fields__
        wires = {(item["from"], item["to"]): Wire(**{name: item[name] for name in fields if name in item}) for item in data["wires"]}
        return cls(nodes, wires)
