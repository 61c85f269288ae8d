"""Prepare a creation at several sites: choose the resource's id, or a tag by which it is found if a site does not answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from atoll.gateway.answers import REPLICA_TAG, query_by_name
from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.request.bodies import items_of
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import GIVEN_ID, microversion
from atoll.gateway.request.paths import segment
from atoll.gateway.request.requester import Requester
from atoll.gateway.resolve.routes import Resource

_PINNED: Mapping[str, tuple[str, ...]] = {
    "networks": (),
    "subnets": ("cidr", "gateway_ip", "allocation_pools"),
    "ports": ("mac_address", "fixed_ips"),
    "routers": (),
    "security_groups": (),
    "security_group_rules": (),
}
"""Neutron's types to which an administrator may give an id, with the fields whose values Neutron chooses: all sites get the first site's
values."""

_OF_POOL = ("subnetpool_id", "prefixlen", "use_default_subnetpool")
"""Fields by which each site would choose its own prefix."""

_WITH_IDS = ("images", "flavors")
"""Types whose creation accepts an id: of an image from the gateway, of a flavor from an administrator."""

_KNOWS_USERS = (2, 10)
"""Nova's first microversion that deletes a key pair of the user that the query names."""

REPLICABLE = ("servers", "keypairs", *_WITH_IDS, *_PINNED)
"""Types that can be the same at several sites."""


@dataclass(frozen=True)
class Draft:
    """A creation that is about to be sent: of one resource, or of several of one type in one request.

    Attributes:
        call: the request for the first site.
        resource: the type.
        ids: the ids that the resources will have; empty if the service assigns them.
        tag: the tag by which a server is found; empty for all other types.
        single: whether the request creates one resource; a list of one resource is answered with a list.
    """

    call: Call
    resource: Resource
    ids: tuple[str, ...] = ()
    tag: str = ""
    single: bool = True

    @property
    def traceable(self) -> bool:
        """True if the resource can be found at a site that did not answer its creation."""
        return bool(self.ids or self.tag)

    @property
    def takes_id(self) -> bool:
        """True if the first site chooses the id, and the other sites' gateways pass it to their services in the user's name."""
        return self.resource.service == "network"

    def for_others(self, first: Reply) -> Draft:
        """Return the creation request for the other sites, with the ids from the first site's answer; it is sent with the user's rights."""
        body, made = self.call.json(), items_of(first.json(), self.resource)
        for wanted, has in zip(items_of(body, self.resource), made, strict=True):
            self._pin(wanted, has)
        call = self.call.with_(json=body)
        if not self.takes_id:
            return replace(self, call=call)
        call.headers[GIVEN_ID] = "1"
        return replace(self, call=call, ids=tuple(has["id"] for has in made))

    def _pin(self, wanted: Any, made: Mapping[str, Any]) -> None:
        """Set, in a creation request for another site, the values that the first site's service has chosen."""
        if self.resource.key == "keypairs":
            wanted["public_key"] = made["public_key"]
        elif self.takes_id:
            for name in _OF_POOL if self.resource.key == "subnets" else ():
                wanted.pop(name, None)
            wanted |= {"id": made["id"], "project_id": made["project_id"]}
            wanted |= {name: made[name] for name in _PINNED[self.resource.key]}
            wanted.pop("tenant_id", None)

    def only(self, numbers: Sequence[int]) -> Draft:
        """Return the creation of some of the resources, for a site that does not need the others.

        Args:
            numbers: the resources' indexes, from 0.
        """
        if self.single or len(numbers) == len(items_of(self.call.value, self.resource)):
            return self
        body = self.call.json()
        body[self.resource.key] = [body[self.resource.key][number] for number in numbers]
        ids = tuple(self.ids[number] for number in numbers) if self.ids else ()
        return replace(self, call=self.call.with_(json=body), ids=ids)

    def one_by_one(self) -> list[Draft]:
        """Return one request for each resource to create."""
        if self.single:
            return [self]
        items = self.call.json()[self.resource.key]
        ids: list[tuple[str, ...]] = [(identifier,) for identifier in self.ids] or [()] * len(items)
        return [
            replace(self, call=self.call.with_(json={self.resource.item: item}), ids=each, single=True)
            for item, each in zip(items, ids, strict=True)
        ]

    def ids_in(self, created: Reply) -> list[str]:
        """Return the ids in a site's answer. The id of a key pair is its name."""
        name = "name" if self.resource.key == "keypairs" else "id"
        return [str(made[name]) for made in items_of(created.json(), self.resource)]

    def deletions(self, created: Reply) -> list[Call]:
        """Return the requests that delete the created resources."""
        return [self._delete_at(self._path(identifier)) for identifier in self.ids_in(created)]

    def copy(self, identifier: str, requester: Requester | None) -> PendingOperation:
        """Return the operation that creates one resource at a site later, unless the site then lacks the resource's parent."""
        operation = PendingOperation.of("", of_user(self.call, requester), "can't be reached", requester)
        return replace(operation, about=self._path(identifier))

    def removals(self, sites: Iterable[str], requester: Requester | None) -> dict[str, list[PendingOperation]]:
        """Return, by site, the operations that delete the created resources at sites that gave no answer; none if not `traceable`."""
        if not self.traceable:
            return {}
        if self.tag:
            name = str(items_of(self.call.value, self.resource)[0].get("name", ""))
            deletions = [self._delete_at(self.call.path, query_by_name(name))]
        else:
            deletions = [self._delete_at(self._path(identifier)) for identifier in self.ids]
        return {
            site: [replace(PendingOperation.of(site, each, "being created", requester, unsure=True), tag=self.tag) for each in deletions]
            for site in sites
        }

    def _path(self, identifier: str) -> str:
        return f"{self.call.path}/{segment(identifier)}"

    def _delete_at(self, path: str, query: str = "") -> Call:
        plain = self.call.with_()
        plain.headers.popall(GIVEN_ID, None)
        return plain.with_(method="DELETE", path=path, body=None, query=query)


def draft(call: Call, resource: Resource, *, several: bool, traced: bool) -> Draft:
    """Prepare a creation at one or several sites.

    Args:
        call: the client's POST.
        resource: the type of the resource.
        several: `True` if the resource is created at more than one site.
        traced: `True` if it must be possible to find the resource again.

    Raises:
        ValueError: the resource can't be created at several sites; the message is for the client.
    """
    if not traced:
        return Draft(call, resource)
    body = call.json()
    items = items_of(body, resource)
    if not items:
        raise ValueError(
            f"expected one {resource.item}, or several {resource.key}" if resource.service == "network" else f"expected one {resource.item}"
        )
    wanted: Any = items[0]
    single = resource.service == "image" or wanted is body.get(resource.item)
    if resource.key in _WITH_IDS and wanted.get("id") in (None, "auto"):
        wanted["id"] = str(uuid.uuid4())
        chosen = call.with_(json=body)
        if resource.service == "image":
            chosen.headers[GIVEN_ID] = "1"  # Glance accepts an id from its gateway, not from a user
        return Draft(chosen, resource, ids=(wanted["id"],))
    if resource.key == "servers":
        if {str(wanted.get(name, 1)) for name in ("min_count", "max_count")} != {"1"}:
            raise ValueError("several servers in one request can't be created by a scope")
        metadata = wanted.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise ValueError("expected metadata to be an object")
        tag = str(uuid.uuid4())
        wanted["metadata"] = {**metadata, REPLICA_TAG: tag}
        return Draft(call.with_(json=body), resource, tag=tag)
    if several and resource.key not in REPLICABLE:
        raise ValueError(f"{resource.key} can't be the same at several sites; these can: {', '.join(REPLICABLE)}")
    return Draft(call, resource, single=single)


def of_user(call: Call, requester: Requester | None) -> Call:
    """Return a call about a key pair with its user in the query, because it is sent with a gateway's token; return other calls unchanged.

    If the requester is unknown, the call matches no key pair.
    """
    parts = call.path.split("/")
    if call.service != "compute" or "os-keypairs" not in parts:
        return call
    asked = parse_qsl(call.query, keep_blank_values=True)
    if any(name == "user_id" for name, _ in asked) and microversion(call.headers) >= _KNOWS_USERS:
        return call
    # Earlier microversions ignore a user that the query names.
    query = [(name, value) for name, value in asked if name != "user_id"]
    said = call.with_(query=urlencode([*query, ("user_id", requester.user if requester else "")]))
    said.headers["OpenStack-API-Version"] = "compute 2.10"
    said.headers.popall("X-OpenStack-Nova-API-Version", None)
    return said
