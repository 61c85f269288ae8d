"""Real networks from files: GraphML of the Internet Topology Zoo and SNDlib, and matrices of round trips.

These networks are expanded into routers and links of the topology, so that the YAML that Atoll writes back needs no file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from atoll.cloud.topology import problem

TOPOHUB = "topohub:"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Graph:
    """A network as a file describes it.

    Attributes:
        labels: the labels of the nodes, in the order of the file, each once.
        locations: latitude and longitude in degrees, by label; only of nodes whose location the file has.
        edges: pairs of labels.
    """

    labels: tuple[str, ...]
    locations: Mapping[str, tuple[float, float]]
    edges: tuple[tuple[str, str], ...]


def resolve(data: object, directory: Path) -> object:
    """Return the data of a cloud with `backbone` and `matrix` of its topology replaced by routers, links and locations.

    Args:
        data: the parsed YAML, not validated yet; malformed parts are returned as they are.
        directory: the directory that paths are relative to.

    Raises:
        PydanticCustomError: `cloud_inconsistent`: a file can't be used, or has no node for a site.
    """
    if not isinstance(data, Mapping) or not isinstance(topology := data.get("topology"), Mapping):
        return data
    sites = [site["name"] for site in data.get("sites") or () if isinstance(site, Mapping) and isinstance(site.get("name"), str)]
    backbone, matrix = topology.get("backbone"), topology.get("matrix")
    rest = {key: value for key, value in topology.items() if key not in ("backbone", "matrix")}
    if isinstance(backbone, Mapping) and isinstance(backbone.get("file"), str) and isinstance(backbone.get("places", {}), Mapping):
        if matrix is not None or topology.get("preset") is not None:
            raise problem(("backbone",), "a backbone is given beside a preset or a matrix: expected one of them")
        if backbone.keys() - {"file", "places"}:
            return data
        graph = read_graph(backbone["file"], directory)
        return {**data, "topology": merge(rest, place(graph, sites, backbone.get("places", {})))}
    if isinstance(matrix, str) and backbone is None:
        if topology.get("preset") is not None:
            raise problem(("matrix",), "a matrix is given beside a preset: expected one of them")
        return {**data, "topology": merge(rest, {"links": read_matrix(directory / matrix, sites)})}
    return data


def merge(topology: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the topology, completed with the content of a file; keys of the topology itself have precedence."""
    merged = dict(topology)
    for key, value in found.items():
        own = topology.get(key)
        if isinstance(value, list):
            merged[key] = [*value, *own] if isinstance(own, list) else value if own is None else own
        elif isinstance(value, dict):
            merged[key] = {**value, **own} if isinstance(own, Mapping) else value if own is None else own
        else:
            merged.setdefault(key, value)
    return merged


def place(graph: Graph, sites: Sequence[str], places: Mapping[str, str]) -> dict[str, Any]:
    """Return the topology of a graph: each site at a node, and the other nodes as routers.

    Args:
        graph: the graph.
        sites: the names of the sites.
        places: the label of a site's node, by the name of the site; other sites are placed by their names or in order.

    Raises:
        PydanticCustomError: `cloud_inconsistent`: a place names an unknown site or node, or the graph has too few nodes.
    """
    at = _choose(graph, sites, places)
    names = {label: site for site, label in at.items()}
    for label in graph.labels:
        if label not in names:
            names[label] = _free_name(label, {*names.values(), *sites})
    located = all(label in graph.locations for label in graph.labels)
    return {
        "routers": [
            {"name": names[label], **({"location": list(graph.locations[label])} if label in graph.locations else {})}
            for label in graph.labels
            if label not in at.values()
        ],
        "links": [{"between": [names[start], names[end]]} for start, end in graph.edges],
        "locations": {site: list(graph.locations[label]) for site, label in at.items() if label in graph.locations},
        **({"distance": True} if located else {}),
    }


def _choose(graph: Graph, sites: Sequence[str], places: Mapping[str, str]) -> dict[str, str]:
    for site, label in places.items():
        if label not in graph.labels:
            raise problem(("backbone", "places", site), f"no node is called {label}: expected one of {_some(graph.labels)}")
        if site not in sites:
            raise problem(("backbone", "places", site), f"no site is called {site}: expected one of {_some(sites)}")
    if len(set(places.values())) < len(places):
        raise problem(("backbone", "places"), "two sites are at one node: expected a node of its own for each")
    at = dict(places)
    by_name = {slug(label): label for label in reversed(graph.labels)}
    for site in sites:
        if site not in at and by_name.get(site) is not None and by_name[site] not in at.values():
            at[site] = by_name[site]
    left = (label for label in graph.labels if label not in set(at.values()))
    for site in sites:
        if site not in at:
            free = next(left, None)
            if free is None:
                text = f"the backbone has {len(graph.labels)} nodes for {len(sites)} sites: expected a backbone with more nodes"
                raise problem(("backbone",), text)
            at[site] = free
    return at


def slug(label: str) -> str:
    """Return a label in the form of a router's name."""
    text = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:32].rstrip("-")
    return text if _NAME.fullmatch(text) else f"node-{text}"[:32].rstrip("-")


def _free_name(label: str, taken: Iterable[str]) -> str:
    name, number, used = slug(label), 1, set(taken)
    while name in used:
        number += 1
        name = f"{slug(label)[:28]}-{number}"
    return name


def read_graph(name: str, directory: Path) -> Graph:
    """Return a graph, read from a GraphML file or from the package topohub.

    Args:
        name: the path of the file, or `topohub:` and the key of a topology.
        directory: the directory that paths are relative to.

    Raises:
        PydanticCustomError: `cloud_inconsistent`: the file can't be read or is not GraphML, or topohub lacks the topology.
    """
    import networkx  # noqa: PLC0415 - takes half a second, and few clouds have a backbone

    if name.startswith(TOPOHUB):
        graph = networkx.node_link_graph(_topohub(name.removeprefix(TOPOHUB)), edges="edges")
    else:
        path = directory / name
        try:
            graph = networkx.read_graphml(path, force_multigraph=True)
        except OSError as error:
            raise problem(("backbone", "file"), f"{path}: {(error.strerror or str(error)).lower()}") from None
        except Exception as error:
            raise problem(("backbone", "file"), f"{path}: expected GraphML: {' '.join(str(error).split())[:100]}") from None
    return _graph(graph.nodes(data=True), graph.edges())


def _topohub(key: str) -> Any:
    try:
        return import_module("topohub").get(key)
    except ImportError:
        text = "the package topohub is not installed: expected it (pip install topohub), or a GraphML file"
        raise problem(("backbone", "file"), text) from None
    except (KeyError, OSError):
        raise problem(("backbone", "file"), f"topohub has no topology {key}: expected a key such as topozoo/Abilene") from None


def _graph(nodes: Iterable[tuple[Any, Mapping[str, Any]]], edges: Iterable[tuple[Any, ...]]) -> Graph:
    labels: dict[Any, str] = {}
    locations = {}
    for node, about in nodes:
        label = str(about.get("label") or about.get("name") or node)
        labels[node] = label if label not in labels.values() else f"{label} {node}"
        location = _location(about)
        if location is not None:
            locations[labels[node]] = location
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for start, end, *_more in edges:
        if start != end:
            pairs.setdefault(frozenset({labels[start], labels[end]}), (labels[start], labels[end]))
    return Graph(tuple(labels.values()), locations, tuple(pairs.values()))


def _location(about: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the location of a node: Latitude and Longitude (Topology Zoo, SNDlib), x and y (SNDlib), or `pos` (topohub)."""
    lower = {str(key).lower(): value for key, value in about.items()}
    if isinstance(lower.get("pos"), list | tuple):
        lower["longitude"], lower["latitude"] = lower["pos"]
    for latitude, longitude in (("latitude", "longitude"), ("y", "x")):
        with suppress(KeyError, TypeError, ValueError):
            found = float(lower[latitude]), float(lower[longitude])
            if abs(found[0]) <= 90 and abs(found[1]) <= 180:
                return found
    return None


def read_matrix(path: Path, sites: Sequence[str]) -> list[dict[str, Any]]:
    """Return links from a CSV file of round trips in milliseconds; half of each is the delay of one direction.

    Raises:
        PydanticCustomError: `cloud_inconsistent`: the file can't be read, or lacks a site or a valid round trip.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    except OSError as error:
        raise problem(("matrix",), f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise problem(("matrix",), f"{path}: expected CSV: {error}") from None
    columns = rows[0][1:] if rows else []
    missing = [site for site in sites if site not in columns or all(row[0] != site for row in rows[1:])]
    if missing:
        raise problem(("matrix",), f"{path}: {missing[0]} is missing: expected a row and a column for each site")
    links = []
    for row in rows[1:]:
        for column, cell in zip(columns, row[1:], strict=False):
            if cell and row[0] in sites and column in sites and column != row[0]:
                links.append({"between": [row[0], column], "delay": f"{_half(cell, path, row[0], column):g}ms", "one_way": True})
    return links


def _half(cell: str, path: Path, start: str, end: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 120_000:
        raise problem(("matrix",), f"{path}: from {start} to {end}: expected milliseconds of 0 or more, got {cell[:20]}")
    return round(value / 2, 6)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
