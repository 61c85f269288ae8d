"""At which site something has to be made, as far as the request itself says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from atoll.gateway.request.call import Call
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.mentions import Reference, leading, parents_of
from atoll.gateway.resolve.references import KINDS
from atoll.gateway.resolve.routes import Resource, network_resource


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
        parents: the resources that it will belong to.
    """

    call: Call
    site: str | None
    parents: tuple[Parent, ...]


def creation(call: Call, resource: Resource, members: Collection[str]) -> Creation:
    """Read a request that makes something.

    Args:
        call: the request.
        resource: of which type.
        members: names of sites: each is an availability zone.
    """
    if not isinstance(call.body, bytes) or not any(name.encode() in call.body for name in (resource.zone, *leading(resource.key)) if name):
        return Creation(call, None, ())
    try:
        body = call.json()
        item = body.get(resource.item) or (body.get(resource.key) or [{}])[0]  # Neutron makes many at once, all at one site
        named = item.get(resource.zone)
        parents = tuple(_parent(reference) for reference in parents_of(resource.key, item))
    except (ValueError, AttributeError, TypeError, LookupError):
        return Creation(call, None, ())  # the service says what is wrong with it
    if isinstance(named, str):
        site = named.partition(":")[0]  # ZONE:HOST:NODE
        return Creation(call, site if site in members else None, parents)
    if isinstance(named, list) and (site := next((each for each in named if isinstance(each, str) and each in members), "")):
        try:
            return Creation(_without_hint(call, body, resource, site), site, parents)
        except (AttributeError, TypeError):  # others of the list are no resources, or have hints of another kind
            return Creation(call, None, ())
    return Creation(call, None, parents)


def _parent(reference: Reference) -> Parent:
    """Name a parent.

    Raises:
        ValueError: no resource can have this id.
    """
    path = KINDS[reference.kind].path
    return Parent(network_resource(path.rpartition("/")[2]), reference.id, f"{path}/{segment(reference.id)}")


def _without_hint(call: Call, body: dict[str, Any], resource: Resource, site: str) -> Call:
    """At the site itself the hint has done its work; Neutron there knows no zone but those of its agents."""
    for item in [body[resource.item]] if resource.item in body else body[resource.key]:
        item[resource.zone] = [each for each in item.get(resource.zone, ()) if each != site]
        if not item[resource.zone]:
            del item[resource.zone]
    return call.with_(json=body)
