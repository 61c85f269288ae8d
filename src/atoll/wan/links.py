"""The state of the links of a running WAN: the topology, later changes, and cuts. This module has no input or output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

from atoll.cloud.network import Ends, Network, Wire
from atoll.errors import AtollError


def spell(ends: Ends) -> str:
    """Return the name of a link."""
    return ":".join(ends)


class Links:
    """The present state of every wire.

    Args:
        network: the topology.
        rerouting: whether packets take another way around links that are cut or have become slow; otherwise routes are fixed.
    """

    def __init__(self, network: Network, *, rerouting: bool = False) -> None:
        self.network = network
        self.rerouting = rerouting
        self._changed: dict[Ends, Wire] = {}
        self._cut_links: set[frozenset[str]] = set()
        self._cut_sites: set[str] = set()

    @property
    def cuts(self) -> list[str]:
        """The names of the sites and links that are cut."""
        links = [spell(link) for link in self.network.links if frozenset(link) in self._cut_links]
        return sorted(self._cut_sites) + links

    def wire(self, ends: Ends) -> Wire:
        """Return the present properties of a wire, which apply while the wire is not cut."""
        return self._changed.get(ends, self.network.wires[ends])

    def up(self, ends: Ends) -> bool:
        """Return whether a wire is up; False if the wire or one of its ends is cut."""
        return frozenset(ends) not in self._cut_links and not self._cut_sites.intersection(ends)

    def hops(self) -> dict[Ends, str]:
        """Return the next neighbour, by node and destination."""
        if not self.rerouting:
            return self.network.next_hops
        live = {ends: self.wire(ends) for ends in self.network.wires if self.up(ends)}
        return Network(self.network.nodes, live).next_hops

    def asked(self) -> list[dict[str, Any]]:
        """Return, for every two sites, the present round trip `rtt_ms` (`None` if they are separated) and its `jitter_ms`."""
        hops, sites = self.hops(), self.network.sites
        found = []
        for start, end in combinations(sites, 2):
            way = [*self._way(hops, start, end), *self._way(hops, end, start)]
            through = all(ends is not None and self.up(ends) for ends in way)
            wires = [self.wire(ends) for ends in way if ends is not None]
            rtt = sum(wire.delay_ms for wire in wires) if through else None
            found.append({"from": start, "to": end, "rtt_ms": rtt, "jitter_ms": sum(wire.jitter_ms for wire in wires)})
        return found

    @staticmethod
    def _way(hops: Mapping[Ends, str], start: str, end: str) -> Iterator[Ends | None]:
        """Yield the wires on the path from one site to another; if a route is missing, yield `None` and stop."""
        while start != end:
            hop = hops.get((start, end))
            if hop is None:
                yield None
                return
            yield start, hop
            start = hop

    def find(self, name: str) -> Ends:
        """Return the ends of a link, in the order of the given name.

        Raises:
            AtollError: `wan.unknown`: no link has the name.
        """
        start, colon, end = name.partition(":")
        if colon and ((start, end) in self.network.wires or (end, start) in self.network.wires):
            return start, end
        known = ", ".join(map(spell, self.network.links[:6])) + (", …" if len(self.network.links) > 6 else "")
        raise AtollError("wan.unknown", f"there is no link {name}: expected one of {known}", "a link is named by its two ends: paris:lyon")

    def set(self, name: str, changes: Mapping[str, Any], *, one_way: bool = False) -> list[Ends]:
        """Change the properties of a link.

        Args:
            name: name of the link.
            changes: fields of `Wire`.
            one_way: whether to change only the direction from the first end to the second.

        Returns:
            The wires that changed.

        Raises:
            AtollError: `wan.unknown`: no link has the name; `wan.invalid`: a field or its value is not valid.
        """
        ends = self.find(name)
        unknown = sorted(changes.keys() - Wire.__dataclass_fields__)
        if unknown or not changes:
            text = f"unknown property {', '.join(unknown)}" if unknown else "no property is given"
            raise AtollError("wan.invalid", f"{text}: expected one of {', '.join(Wire.__dataclass_fields__)}")
        wires = [each for each in ([ends] if one_way else [ends, ends[::-1]]) if each in self.network.wires]
        for each in wires:
            self._changed[each] = replace(self.wire(each), **changes)
        return wires

    def cut(self, name: str) -> list[Ends]:
        """Cut a link, or all links of a site.

        Returns:
            The wires that are affected.

        Raises:
            AtollError: `wan.unknown`: no link or node has the name.
        """
        if self._is_node(name):
            self._cut_sites.add(name)
            return self._of(name)
        ends = self.find(name)
        self._cut_links.add(frozenset(ends))
        return self._both(ends)

    def heal(self, name: str | None = None) -> list[Ends]:
        """Undo the cut of a link or a site, or all cuts; changed properties stay.

        Returns:
            The wires that are affected.

        Raises:
            AtollError: `wan.unknown`: no link or node has the name.
        """
        if name is None:
            before = [ends for ends in self.network.wires if not self.up(ends)]
            self._cut_links, self._cut_sites = set(), set()
            return before
        if self._is_node(name):
            self._cut_sites.discard(name)
            return self._of(name)
        ends = self.find(name)
        self._cut_links.discard(frozenset(ends))
        return self._both(ends)

    def follow(self, network: Network) -> None:
        """Adopt another topology. Links that both topologies have, with the same properties, keep their changes and cuts."""
        kept = {ends for ends, wire in network.wires.items() if self.network.wires.get(ends) == wire}
        self._changed = {ends: wire for ends, wire in self._changed.items() if ends in kept}
        self._cut_sites &= {node.name for node in network.nodes}
        self._cut_links &= {frozenset(ends) for ends in network.wires}
        self.network = network

    def _is_node(self, name: str) -> bool:
        return any(node.name == name for node in self.network.nodes)

    def _of(self, name: str) -> list[Ends]:
        return [ends for ends in self.network.wires if name in ends]

    def _both(self, ends: Ends) -> list[Ends]:
        return [each for each in (ends, ends[::-1]) if each in self.network.wires]


def check(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a wire can have the values of a request, and return them.

    Raises:
        AtollError: `wan.invalid`: a value is out of range.
    """

    def fits(name: str, value: object) -> bool:
        if value is None:
            return name == "rate_mbit"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return value > 0 if name == "rate_mbit" else 0 <= value <= (1 if name in ("loss", "reorder") else 1e6)

    bad = _first(name for name, value in changes.items() if not fits(name, value))
    if bad is not None:
        raise AtollError("wan.invalid", f"{bad}: {changes[bad]!r} is out of range")
    return dict(changes)


def _first(names: Iterable[str]) -> str | None:
    return next(iter(names), None)
