"""Expansion of a topology, as the YAML describes it, into nodes and wires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations, pairwise
from typing import Any

from atoll.cloud import geography
from atoll.cloud.network import Ends, Network, Node, Wire
from atoll.cloud.topology import NODES, Topology, problem

_Changes = Mapping[str, Any]


def expand(sites: Sequence[str], topology: Topology) -> Network:
    """Return the network of a topology.

    The properties of a link come from the defaults, the distance of its ends, the constraints in their order, and the links in their
    order; each of these overrides those before it.

    Args:
        sites: the names of the sites, in the order of the file.
        topology: the topology.

    Raises:
        PydanticCustomError: `cloud_inconsistent`: a name is unknown or used twice, two sites are not connected, or a needed location is
            missing. The error's context has the `path` of the field.
    """
    nodes = _nodes(sites, topology)
    names = [node.name for node in nodes]
    links = _links(sites, names, topology)
    wires = {ends: Wire(**changes) for ends, changes in _shape(nodes, links, topology).items()}
    network = Network(nodes, wires)
    apart = network.unreachable()
    if apart is not None:
        raise problem((), f"no path leads from {apart[0]} to {apart[1]}: expected links that connect all sites")
    return network


def _nodes(sites: Sequence[str], topology: Topology) -> tuple[Node, ...]:
    for index, router in enumerate(topology.routers):
        others = (*sites, *(other.name for other in topology.routers[:index]))
        if router.name in others:
            raise problem(("routers", index, "name"), f"a second site or router named {router.name}: expected another name")
    for name in topology.locations:
        if name not in sites:
            raise problem(("locations", name), _unknown("site", name, sites))
    placed = [Node(name, site=True, location=topology.locations.get(name)) for name in sites]
    nodes = (*placed, *(Node(router.name, site=False, location=router.location) for router in topology.routers))
    if len(nodes) > NODES:
        raise problem((), f"{len(nodes)} sites and routers: expected at most {NODES}")
    return nodes


def _links(sites: Sequence[str], names: Sequence[str], topology: Topology) -> list[Ends]:
    """Return each link once, the links of the preset first."""
    for index, link in enumerate(topology.links):
        for name in link.between:
            if name not in names:
                raise problem(("links", index, "between"), _unknown("site or router", name, names))
        if link.between[0] == link.between[1]:
            raise problem(("links", index, "between"), f"a link from {link.between[0]} to itself: expected two different ends")
    preset = topology.preset or (None if topology.links else "mesh")
    found = dict.fromkeys(_preset(sites, preset, topology))
    for link in topology.links:
        if link.between[::-1] not in found:
            found[link.between] = None
    return list(found)


def _preset(sites: Sequence[str], preset: str | None, topology: Topology) -> Iterable[Ends]:
    if preset == "mesh":
        return combinations(sites, 2)
    if preset == "ring":
        closing = [(sites[-1], sites[0])] if len(sites) > 2 else []
        return [*pairwise(sites), *closing]
    if preset == "star":
        center = topology.center or sites[0]
        if center not in sites:
            raise problem(("center",), _unknown("site", center, sites))
        return [(center, site) for site in sites if site != center]
    return []


def _shape(nodes: Sequence[Node], links: Iterable[Ends], topology: Topology) -> dict[Ends, dict[str, Any]]:
    """Return the properties that the topology gives each wire, as fields of `Wire`."""
    names = [node.name for node in nodes]
    groups = _groups(names, topology)
    exempt = {name for index, group in enumerate(topology.exempt) for name in _members(group, groups, names, ("exempt", index))}
    wires: dict[Ends, dict[str, Any]] = {}
    for link in links:
        for ends in (link, link[::-1]):
            wires[ends] = {} if exempt.intersection(ends) else topology.defaults.changes()
            if topology.distance:
                wires[ends]["delay_ms"] = _delay(ends, {node.name: node for node in nodes})
    for index, constraint in enumerate(topology.constraints):
        left, right = (_members(name, groups, names, ("constraints", index, "between")) for name in constraint.between)
        for ends, said in wires.items():
            if _applies(ends, left, right) or (not constraint.one_way and _applies(ends[::-1], left, right)):
                said.update(constraint.changes())
    for entry in topology.links:
        for ends in (entry.between,) if entry.one_way else (entry.between, entry.between[::-1]):
            wires[ends].update(entry.changes())
    return wires


def _applies(ends: Ends, left: frozenset[str], right: frozenset[str]) -> bool:
    return ends[0] in left and ends[1] in right


def _groups(names: Sequence[str], topology: Topology) -> dict[str, frozenset[str]]:
    groups = {}
    for group, patterns in topology.groups.items():
        if group in names:
            raise problem(("groups", group), f"{group} is a site or router too: expected another name for the group")
        members: set[str] = set()
        for pattern in patterns:
            found = {name for name in names if fnmatchcase(name, pattern)}
            if not found:
                raise problem(("groups", group), _unknown("site or router", pattern, names))
            members |= found
        groups[group] = frozenset(members)
    return groups


def _members(name: str, groups: Mapping[str, frozenset[str]], names: Sequence[str], path: tuple[str | int, ...]) -> frozenset[str]:
    if name in groups:
        return groups[name]
    if name in names:
        return frozenset({name})
    raise problem(path, _unknown("group or site", name, [*groups, *names]))


def _delay(ends: Ends, nodes: Mapping[str, Node]) -> float:
    start, end = (nodes[name].location for name in ends)
    if start is None or end is None:
        name = ends[0] if start is None else ends[1]
        raise problem(("distance",), f"{name} has no location to derive delays from: expected one in `locations`")
    return geography.delay_ms(start, end)


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return f"no {kind} is called {name}: expected one of {shown}"
