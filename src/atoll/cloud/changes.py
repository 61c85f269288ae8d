"""Functions that add sites to the model of a cloud, or remove sites from it. They have no input or output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from atoll.cloud.databases import Database
from atoll.cloud.document import make_cloud, to_data
from atoll.cloud.model import Cloud
from atoll.errors import AtollError

_Topology = dict[str, Any]


@dataclass(frozen=True)
class NewSite:
    """A site that is to be added to a cloud.

    Attributes:
        name: the site's name.
        kind: "full" or "compute".
        control: the control site of a compute site.
        links: the properties of each link, as fields of `Shape` with texts, by the site or router at the link's other end.
        location: latitude and longitude, in degrees.
    """

    name: str
    kind: str = "full"
    control: str | None = None
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    location: tuple[float, float] | None = None


def with_site(cloud: Cloud, new: NewSite) -> Cloud:
    """Return the cloud with one more site; if the cloud has the site already, give that site the new links and location.

    Raises:
        AtollError: `cloud.invalid`: the result is not valid, or the site exists with another kind or control site.
    """
    data = to_data(cloud)
    old = next((site for site in cloud.sites if site.name == new.name), None)
    if old is None:
        said = {"name": new.name, "kind": new.kind, "control": new.control}
        data["sites"].append({name: value for name, value in said.items() if value is not None})
    elif (old.kind, old.control) != (new.kind, new.control):
        what = f"a compute site of {old.control}" if old.control else "a full site"
        raise AtollError(
            "cloud.invalid", f"{new.name} exists, and is {what}: expected another name", f"or `atoll site remove {new.name}` first"
        )
    if cloud.topology is None:
        if new.links or new.location:
            raise AtollError("cloud.invalid", f"{cloud.name} has no topology: expected no links and no location for {new.name}")
    else:
        _link(data["topology"], new)
        if old is None and not new.links and _only_listed(data["topology"]):
            text = f"{new.name} would have no link, because the topology has no preset: expected at least one `--link OTHER`"
            raise AtollError("cloud.invalid", text)
    return make_cloud(data, {site.name: site for site in cloud.sites})


def with_database(cloud: Cloud, name: str, database: Database) -> Cloud:
    """Return the cloud with another place for the databases of a site.

    Raises:
        AtollError: `cloud.invalid`: the site can't have its databases at this place.
    """
    data = to_data(cloud)
    [site] = [each for each in data["sites"] if each["name"] == name]
    _put(site, "database", database.model_dump(mode="json", exclude_defaults=True))
    return make_cloud(data, {each.name: each for each in cloud.sites})


def without_sites(cloud: Cloud, names: Collection[str]) -> Cloud:
    """Return the cloud without some sites, and without the entries of its topology that concern only them.

    Raises:
        AtollError: `cloud.invalid`: no site remains, or the remaining sites are not connected.
    """
    data = to_data(cloud)
    data["sites"] = [site for site in data["sites"] if site["name"] not in names]
    try:
        if cloud.topology is not None:
            _unlink(data["topology"], names, [site["name"] for site in data["sites"]])
        return make_cloud(data, {})
    except AtollError as error:
        hint = "change the cloud's YAML so that the other sites do not need these, run `atoll up` with it, and try again"
        raise AtollError("cloud.invalid", f"without {', '.join(sorted(names))}: {error.message}", hint) from None


def _link(topology: _Topology, new: NewSite) -> None:
    if new.location is not None:
        topology["locations"] = {**topology.get("locations", {}), new.name: list(new.location)}
    if new.links:
        others = {frozenset((new.name, other)) for other in new.links}
        kept = [link for link in topology.get("links", []) if frozenset(link["between"]) not in others]
        topology["links"] = [*kept, *({"between": [new.name, other], **shape} for other, shape in new.links.items())]


def _unlink(topology: _Topology, names: Collection[str], left: Sequence[str]) -> None:
    only_listed = _only_listed(topology)
    known = [*left, *(router["name"] for router in topology.get("routers", []))]
    groups = topology.get("groups", {})
    for key in ("links", "constraints"):
        kept = [entry for entry in topology.get(key, []) if not _names_any(entry["between"], names, groups)]
        _put(topology, key, kept)
    if only_listed and "links" not in topology and len(left) > 1:  # a topology without any links would default to a mesh
        raise AtollError("cloud.invalid", f"no path leads from {left[0]} to {left[1]}: expected links that connect all sites")
    _put(topology, "locations", {name: place for name, place in topology.get("locations", {}).items() if name not in names})
    _put(topology, "exempt", [name for name in topology.get("exempt", []) if not _names_any([name], names, groups)])
    _put(topology, "groups", {group: [each for each in patterns if _matches(each, known)] for group, patterns in groups.items()})


def _only_listed(topology: Mapping[str, Any]) -> bool:
    """Return whether the topology has only the links that it lists."""
    return "preset" not in topology and bool(topology.get("links"))


def _names_any(said: Iterable[str], names: Collection[str], groups: Collection[str]) -> bool:
    return any(name in names and name not in groups for name in said)


def _matches(pattern: str, known: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in known)


def _put(data: dict[str, Any], key: str, value: object) -> None:
    """Set a key of the topology or of a site, or remove it if the value is empty."""
    if value:
        data[key] = value
    else:
        data.pop(key, None)
