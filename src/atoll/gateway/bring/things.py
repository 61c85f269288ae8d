"""Descriptions of one thing by several sites, and the rule by which they are of the same thing.

An id alone never identifies a copy: Glance lets its clients choose ids, administrators choose those of flavors, and a member site may say
anything. Copies must agree in their owner and in everything else that can't change while the thing exists. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.asking import Failed

_LASTING: Mapping[str, tuple[str, ...]] = {
    kinds.IMAGE: ("owner", "os_hash_algo", "os_hash_value", "size", "disk_format", "container_format"),
    kinds.FLAVOR: (
        *("name", "ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral", "rxtx_factor"),
        "os-flavor-access:is_public",
    ),
    kinds.KEY_PAIR: ("public_key", "type"),
    kinds.NETWORK: ("project_id",),
    kinds.SUBNET: ("project_id", "network_id", "ip_version", "cidr"),
    kinds.SECURITY_GROUP: ("project_id",),
}
"""By kind, the fields that all copies have in common for as long as they exist."""

OWNER: Mapping[str, str] = {
    kinds.IMAGE: "owner",
    kinds.NETWORK: "project_id",
    kinds.SUBNET: "project_id",
    kinds.SECURITY_GROUP: "project_id",
}
"""By kind, the field that names the project that owns it. A flavor is the administrators', a key pair its user's."""

VISIBILITIES = ("private", "shared", "community", "public")
"""Of an image; each shows it to more projects than the one before."""


@dataclass(frozen=True)
class Description:
    """One site's description of a thing.

    Attributes:
        site: the site.
        body: the thing, as the site's service shows it to an administrator.
        native: True if its owner made it at that site; False if the site's gateway brought it.
        granted: the actions that the site lets the project do that was asked about; empty if none.
    """

    site: str
    body: Mapping[str, Any]
    native: bool = True
    granted: tuple[str, ...] = field(default=())

    def owner(self, kind: str) -> str:
        """The id of the owning project; empty if the kind has none."""
        return str(self.body.get(OWNER[kind]) or "") if kind in OWNER else ""


class Disagreement(Failed):
    """Sites hold different things under one id.

    Args:
        kind: the kind of the thing.
        identifier: the id.
        sites: the sites that disagree.
        why: one sentence for people.
    """

    def __init__(self, kind: str, identifier: str, sites: Iterable[str], why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.id = identifier
        self.sites = tuple(sites)


def differences(kind: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the lasting fields in which two descriptions differ.

    A field that one of them lacks, as a queued image its hash, is no difference.
    """
    pairs = ((name, one.get(name), other.get(name)) for name in _LASTING[kind])
    return [name for name, mine, theirs in pairs if mine is not None and theirs is not None and _plain(mine) != _plain(theirs)]


def agree(kind: str, identifier: str, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that all sites describe the same thing.

    Args:
        kind: the kind of the thing.
        identifier: its id.
        bodies: the thing as each site describes it.

    Raises:
        Disagreement: two sites hold different things.
    """
    for one, other in combinations(bodies, 2):
        if different := differences(kind, bodies[one], bodies[other]):
            why = f"{one} and {other} hold different things under this id: they differ in {', '.join(different)}"
            raise Disagreement(kind, identifier, (one, other), why)


def least_visible(bodies: Iterable[Mapping[str, Any]]) -> str:
    """Return the visibility that shows an image to the fewest projects: a site that was cut off may not know of a withdrawal yet."""
    said = [str(body.get("visibility")) for body in bodies]
    return min(said, key=lambda each: VISIBILITIES.index(each) if each in VISIBILITIES else -1)


def _plain(value: Any) -> Any:
    """The value, with an empty text taken for zero, as Nova shows a flavor without swap."""
    return 0 if value == "" else value
