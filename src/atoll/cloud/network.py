"""An expanded topology: nodes, the properties of each direction of each link, and the routes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any

RANGE = IPv4Network("10.77.0.0/16")
"""The network of the sites' and routers' addresses, each the first of 256. It exists only in the sites' network namespaces."""

Ends = tuple[str, str]
"""The names of the nodes at the start and the end of a wire."""

_HOP_MS = 1e-6  # added for each hop, so that of two routes with the same delay the one with fewer hops is taken


def address_of(number: int) -> IPv4Address:
    """Return the address of the site or router with a number from 0 to 255."""
    return RANGE.network_address + (number << 8) + 1


def outside_of(address: str) -> str:
    """Return a site's address on its external network, with the prefix: the upper half of the site's 256 addresses."""
    return f"{IPv4Address(address) + 128}/25"


def number_of(address: str) -> int | None:
    """Return the number of the site with an address; `None` if no site can have it."""
    value = IPv4Address(address)
    return int(value) >> 8 & 0xFF if value in RANGE and int(value) & 0xFF == 1 else None


@dataclass(frozen=True)
class Wire:
    """One direction of a link.

    Attributes:
        delay_ms: delay in milliseconds.
        jitter_ms: greatest deviation from the delay in milliseconds, uniformly distributed, longer or shorter; packets keep their order.
        rate_mbit: megabits (10^6) of IP packets per second; `None` means unlimited.
        loss: probability of the loss of a packet, 0 to 1.
        reorder: probability that a packet skips the delay, and so overtakes others, 0 to 1.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_mbit: float | None = None
    loss: float = 0.0
    reorder: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class Node:
    """A site or a router.

    Attributes:
        name: the node's name.
        site: True for a site; False for a router, which only forwards.
        location: latitude and longitude in degrees; `None` if unknown.
        address: the IPv4 address of a site, `10.77.N.1`; `None` means that the WAN assigns a free one.
    """

    name: str
    site: bool = True
    location: tuple[float, float] | None = None
    address: str | None = None


@dataclass(frozen=True)
class Network:
    """The network that a topology describes, with all its nodes and wires.

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
        """The links, each once, with its ends in the order of the nodes."""
        order = {node.name: index for index, node in enumerate(self.nodes)}
        pairs = {tuple(sorted(ends, key=order.__getitem__)) for ends in self.wires}
        return tuple(sorted(((a, b) for a, b in pairs), key=lambda ends: (order[ends[0]], order[ends[1]])))

    @cached_property
    def next_hops(self) -> dict[Ends, str]:
        """The next neighbour of a packet, by node and destination.

        Between neighbours, packets take their link, even if a detour would be faster, so that two sites get the delay configured for
        their link. Otherwise packets take the fastest route.
        """
        names = [node.name for node in self.nodes]
        return {(node, destination): hop for destination in names for node, hop in self._towards(destination).items()}

    def _towards(self, destination: str) -> dict[str, str]:
        """Return the next hops towards a destination, by Dijkstra's algorithm from the destination; its neighbours take their link."""
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
        """Return the wires that a packet takes; `None` means that no path exists."""
        steps = []
        while start != end:
            hop = self.next_hops.get((start, end))
            if hop is None:
                return None
            steps.append((start, hop))
            start = hop
        return tuple(steps)

    def delay_ms(self, start: str, end: str) -> float | None:
        """Return the milliseconds from one node to another, without jitter and queues; `None` means that no path exists."""
        path = self.path(start, end)
        return None if path is None else sum(self.wires[step].delay_ms for step in path)

    def rtt_ms(self, start: str, end: str) -> float | None:
        """Return the round trip in milliseconds; `None` means that no path exists in one direction."""
        there, back = self.delay_ms(start, end), self.delay_ms(end, start)
        return None if there is None or back is None else there + back

    def unreachable(self) -> Ends | None:
        """Return two sites without a path from the first to the second; `None` if all sites are connected."""
        pairs = ((start, end) for start in self.sites for end in self.sites)
        return next(((start, end) for start, end in pairs if start != end and (start, end) not in self.next_hops), None)

    def without(self, gone: Iterable[Ends]) -> Network:
        """Return this network without some wires."""
        dropped = set(gone)
        return Network(self.nodes, {ends: wire for ends, wire in self.wires.items() if ends not in dropped})

    def to_json(self) -> dict[str, Any]:
        """Return the nodes and wires, ready for `json.dumps`."""
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "wires": [{"from": start, "to": end, **wire.to_json()} for (start, end), wire in self.wires.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Network:
        """Return the network that `to_json` turned into data."""
        nodes = tuple(
            Node(item["name"], item["site"], tuple(item["location"]) if item["location"] else None, item.get("address"))
            for item in data["nodes"]
        )
        fields = Wire.__dataclass_fields__
        wires = {(item["from"], item["to"]): Wire(**{name: item[name] for name in fields if name in item}) for item in data["wires"]}
        return cls(nodes, wires)
