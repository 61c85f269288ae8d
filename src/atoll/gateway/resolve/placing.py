"""Reads from a creation request the site and the parents of the new resource. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.gateway.request.bodies import items_of
from atoll.gateway.request.call import Call
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.mentions import Reference, leading, parents_of
from atoll.gateway.resolve.references import KINDS, NETWORK, SECURITY_GROUP
from atoll.gateway.resolve.routes import Resource, network_resource

MOST_PARENTS = 64
"""Greatest number of parents of the resources in one request, because each is searched at every site."""


class Unplaceable(ValueError):
    """A request names several sites or too many parents; the message is shown to the client."""


WHOLES = {"subnets": NETWORK, "security_group_rules": SECURITY_GROUP}
"""Collections of parts, each with the kind of the parent. A part is created at every site that holds a copy of its parent."""


@dataclass(frozen=True)
class Parent:
    """A resource that a new resource will belong to.

    Attributes:
        resource: the parent's type.
        id: the parent's id, as in the request.
        path: the parent's path.
    """

    resource: Resource
    id: str
    path: str


@dataclass(frozen=True)
class Creation:
    """A parsed creation request.

    Attributes:
        call: the request as it must be sent.
        site: the site that the request names; `None` if it names none.
        parents: the resources that the new resources will belong to, each once.
        whole: for each new resource, the index in `parents` of its parent; empty if any has no parent or several.
    """

    call: Call
    site: str | None = None
    parents: tuple[Parent, ...] = ()
    whole: tuple[int, ...] = ()


def creation(call: Call, resource: Resource, members: Collection[str]) -> Creation:
    """Parse a request that creates one or several resources of one type.

    Args:
        call: the request.
        resource: the type of the new resources.
        members: the names of the sites; each is also an availability zone.

    Raises:
        Unplaceable: the request names several sites, or too many parents.
    """
    if not isinstance(call.body, bytes) or not any(name.encode() in call.body for name in (resource.zone, *leading(resource.key)) if name):
        return Creation(call)
    items = items_of(call.value, resource)
    if not items:
        return Creation(call)  # malformed: the service reports the error
    try:
        parents, whole = _parents(items, resource)
    except ValueError:  # no resource can have such an id
        return Creation(call)
    if len(parents) > MOST_PARENTS:
        raise Unplaceable(
            f"the request names {len(parents)} parents of its resources: expected at most {MOST_PARENTS}; send several requests"
        )
    if any(not isinstance(item.get(resource.zone), str | list | None) for item in items):
        return Creation(call)
    named = {site for item in items for site in _sites(item.get(resource.zone), members)}
    if len(named) > 1:
        raise Unplaceable(f"the request names several sites ({', '.join(sorted(named))}): expected one; send one request for each site")
    if not named:
        return Creation(call, None, parents, whole)
    (site,) = named
    if any(isinstance(item.get(resource.zone), list) for item in items):
        call = _without_hint(call, resource, site)
    return Creation(call, site, parents, whole)


def _parents(items: Sequence[Mapping[str, Any]], resource: Resource) -> tuple[tuple[Parent, ...], tuple[int, ...]]:
    """Return the parents of new resources, and for each new resource the index of its only parent.

    Raises:
        ValueError: no resource can have the id of a parent.
    """
    found: dict[Reference, Parent] = {}
    whole: list[int] = []
    for item in items:
        named = [each for each in parents_of(resource.key, item) if resource.key not in WHOLES or each.kind == WHOLES[resource.key]]
        for reference in named:
            if reference not in found:
                path = KINDS[reference.kind].path
                resource_type = network_resource(path.rpartition("/")[2])
                found[reference] = Parent(resource_type, reference.id, f"{path}/{segment(reference.id)}")
        if len(named) == 1:
            whole.append(list(found).index(named[0]))
    return tuple(found.values()), tuple(whole) if len(whole) == len(items) else ()


def _sites(named: Any, members: Collection[str]) -> list[str]:
    """Return, as a list, the site that a zone (`ZONE:HOST:NODE`) or a list of zone hints names; of several hints, the first applies."""
    if isinstance(named, str):
        return [site] if (site := named.partition(":")[0]) in members else []
    if isinstance(named, list):
        return [each for each in named if isinstance(each, str) and each in members][:1]
    return []


def _without_hint(call: Call, resource: Resource, site: str) -> Call:
    """Return a request without the zone hint that names its site, because the site's Neutron knows only the zones of its agents."""
    body = call.json()
    for item in items_of(body, resource):
        hints = item.get(resource.zone)
        if isinstance(item, dict) and isinstance(hints, list):
            item[resource.zone] = [each for each in hints if each != site]
            if not item[resource.zone]:
                del item[resource.zone]
    return call.with_(json=body)
