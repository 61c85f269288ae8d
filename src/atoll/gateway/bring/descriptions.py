"""Compare the descriptions that several sites give of one resource.

An id alone never identifies a copy: Glance lets its clients choose ids, administrators choose those of flavors, and a member site may give
any answer. Copies must agree in their owner and in every other field that can't change while the resource exists. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.service_client import BringFailed

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
"""Fields that never change, and so are equal in all copies, by kind."""

OWNER: Mapping[str, str] = {
    kinds.IMAGE: "owner",
    kinds.NETWORK: "project_id",
    kinds.SUBNET: "project_id",
    kinds.SECURITY_GROUP: "project_id",
}
"""The field that names the owning project, by kind. Flavors belong to the administrators, key pairs to their users."""

VISIBILITIES = ("private", "shared", "community", "public")
"""Visibilities of an image; each shows it to more projects than the one before."""


@dataclass(frozen=True)
class Description:
    """One site's description of a resource.

    Attributes:
        site: the name of the site.
        body: the resource, as the site's service shows it to an administrator.
        native: `True` if the owner created the resource at that site; `False` if the site's gateway brought it.
        granted: the actions that the site allows to the project named in the question; empty if none.
    """

    site: str
    body: Mapping[str, Any]
    native: bool = True
    granted: tuple[str, ...] = field(default=())

    def owner(self, kind: str) -> str:
        """Return the id of the project that owns the resource; empty if the kind has no owner."""
        return str(self.body.get(OWNER[kind]) or "") if kind in OWNER else ""


class Disagreement(BringFailed):
    """The error that sites hold different resources under one id.

    Args:
        kind: the kind of the resource.
        identifier: the id.
        sites: the sites that disagree.
        why: one sentence for the operator.
    """

    def __init__(self, kind: str, identifier: str, sites: Iterable[str], why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.id = identifier
        self.sites = tuple(sites)


def lasting(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a resource that never change, and so are equal in all its copies."""
    return {name: body[name] for name in _LASTING[kind] if name in body}


def differences(kind: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the lasting fields in which two descriptions differ.

    A field that one of them lacks, such as the hash of a queued image, is not a difference.
    """
    pairs = ((name, one.get(name), other.get(name)) for name in _LASTING[kind])
    return [name for name, mine, theirs in pairs if mine is not None and theirs is not None and _plain(mine) != _plain(theirs)]


def agree(kind: str, identifier: str, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that all sites describe the same resource.

    Args:
        kind: the kind of the resource.
        identifier: the resource's id.
        bodies: the description of each site.

    Raises:
        Disagreement: two sites describe different resources.
    """
    for one, other in combinations(bodies, 2):
        if different := differences(kind, bodies[one], bodies[other]):
            why = f"{one} and {other} hold different resources under this id: they differ in {', '.join(different)}"
            raise Disagreement(kind, identifier, (one, other), why)


def least_visible(bodies: Iterable[Mapping[str, Any]]) -> str:
    """Return the visibility that shows an image to the fewest projects: a site that was cut off may not have learned of a withdrawal."""
    said = [str(body.get("visibility")) for body in bodies]
    return min(said, key=lambda each: VISIBILITIES.index(each) if each in VISIBILITIES else -1)


def _plain(value: Any) -> Any:
    """Return a value; 0 for an empty string, by which Nova shows that a flavor has no swap."""
    return 0 if value == "" else value
