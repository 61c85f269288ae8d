"""At which site something has to be made, as far as the request itself says. Pure."""

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
"""Resources to which what one request makes may belong: each is looked for at every site."""


class Unplaceable(ValueError):  # noqa: N818 - a finding
    """One request asks for things at several sites, or for parts of too many; why that can't be, for people."""


WHOLES = {"subnets": NETWORK, "security_group_rules": SECURITY_GROUP}
"""Of what may have copies at several sites: what it is a part of, and is made where that is."""


@dataclass(frozen=True)
class Parent:
    """A resource that a new one will belong to.

    Attributes:
        resource: its type.
        id: its id, as the request names it.
        path: its path.
    """

    resource: Resource
    id: str
    path: str


@dataclass(frozen=True)
class Creation:
    """What a request says about what it makes.

    Attributes:
        call: as it has to be sent.
        site: that it names; None: none.
        parents: the resources that it will belong to, each once.
        whole: of each thing that is made, which of `parents` it belongs to; empty if any belongs to none or to several.
    """

    call: Call
    site: str | None = None
    parents: tuple[Parent, ...] = ()
    whole: tuple[int, ...] = ()


def creation(call: Call, resource: Resource, members: Collection[str]) -> Creation:
    """Read a request that makes something, or several things of one type.

    Args:
        call: the request.
        resource: of which type.
        members: names of sites: each is an availability zone.

    Raises:
        Unplaceable: it names several sites, or too many resources that things would belong to.
    """
    if not isinstance(call.body, bytes) or not any(name.encode() in call.body for name in (resource.zone, *leading(resource.key)) if name):
        return Creation(call)
    items = items_of(call.value, resource)
    if not items:
        return Creation(call)  # the service says what is wrong with it
    try:
        parents, whole = _parents(items, resource)
    except ValueError:  # no resource can have such an id
        return Creation(call)
    if len(parents) > MOST_PARENTS:
        raise Unplaceable(f"one request can't make parts of more than {MOST_PARENTS} resources, and this one names {len(parents)}")
    if any(not isinstance(item.get(resource.zone), str | list | None) for item in items):
        return Creation(call)
    named = {site for item in items for site in _sites(item.get(resource.zone), members)}
    if len(named) > 1:
        raise Unplaceable(f"one request can't make things at several sites, and this one names {' and '.join(sorted(named))}")
    if not named:
        return Creation(call, None, parents, whole)
    (site,) = named
    if any(isinstance(item.get(resource.zone), list) for item in items):
        call = _without_hint(call, resource, site)
    return Creation(call, site, parents, whole)


def _parents(items: Sequence[Mapping[str, Any]], resource: Resource) -> tuple[tuple[Parent, ...], tuple[int, ...]]:
    """Raises ValueError: no resource can have such an id."""
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
    """The sites that a zone (`ZONE:HOST:NODE`) or a list of zone hints names; of several hints the first counts."""
    if isinstance(named, str):
        return [site] if (site := named.partition(":")[0]) in members else []
    if isinstance(named, list):
        return [each for each in named if isinstance(each, str) and each in members][:1]
    return []


def _without_hint(call: Call, resource: Resource, site: str) -> Call:
    """At the site itself the hint has done its work; Neutron there knows no zone but those of its agents."""
    body = call.json()
    for item in items_of(body, resource):
        hints = item.get(resource.zone)
        if isinstance(item, dict) and isinstance(hints, list):
            item[resource.zone] = [each for each in hints if each != site]
            if not item[resource.zone]:
                del item[resource.zone]
    return call.with_(json=body)
