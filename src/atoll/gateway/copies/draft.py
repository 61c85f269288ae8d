"""How something is created at several sites: with which id, and how it is found again if a site does not say what has become of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from atoll.gateway.answers import REPLICA_TAG, find_tagged
from atoll.gateway.copies.operation import Operation
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
"""Neutron's types that an administrator may give an id, and what Neutron itself chooses: the others must have what the first has."""

_OF_POOL = ("subnetpool_id", "prefixlen", "use_default_subnetpool")
"""By these a site would choose a prefix of its own."""

_WITH_IDS = ("images", "flavors")
"""Types that take an id when they are created: an image from the gateway, a flavor from an administrator."""

_KNOWS_USERS = (2, 10)
"""The first of Nova's microversions that deletes a key pair of the user that the query names."""

REPLICABLE = ("servers", "keypairs", *_WITH_IDS, *_PINNED)
"""Types that can be the same at several sites."""


@dataclass(frozen=True)
class Draft:
    """What is about to be created: one thing, or several of one type in one request.

    Attributes:
        call: the request, for the first site.
        resource: its type.
        ids: what the ids will be; empty if they are not for us to choose, and so might be those of things that are there already.
        tag: by which servers are found; empty for all else.
        single: whether the request makes one thing, and says so: a list of one thing is answered with a list.
    """

    call: Call
    resource: Resource
    ids: tuple[str, ...] = ()
    tag: str = ""
    single: bool = True

    @property
    def traceable(self) -> bool:
        """Whether it can be found at a site that did not say what has become of it."""
        return bool(self.ids or self.tag)

    @property
    def takes_id(self) -> bool:
        """Whether the first site chooses the id, and the others are given it by their gateways, in the user's name."""
        return self.resource.service == "network"

    def for_others(self, first: Reply) -> Draft:
        """What is created at the other sites, after the first has created it: with the user's own rights, and under the same id."""
        body, made = self.call.json(), items_of(first.json(), self.resource)
        for wanted, has in zip(items_of(body, self.resource), made, strict=True):
            self._pin(wanted, has)
        call = self.call.with_(json=body)
        if not self.takes_id:
            return replace(self, call=call)
        call.headers[GIVEN_ID] = "1"
        return replace(self, call=call, ids=tuple(has["id"] for has in made))

    def _pin(self, wanted: Any, made: Mapping[str, Any]) -> None:
        """Ask for what the first site has chosen."""
        if self.resource.key == "keypairs":
            wanted["public_key"] = made["public_key"]
        elif self.takes_id:
            for name in _OF_POOL if self.resource.key == "subnets" else ():
                wanted.pop(name, None)
            wanted |= {"id": made["id"], "project_id": made["project_id"]}
            wanted |= {name: made[name] for name in _PINNED[self.resource.key]}
            wanted.pop("tenant_id", None)

    def only(self, numbers: Sequence[int]) -> Draft:
        """Some of the things, for a site that has no use for the others.

        Args:
            numbers: which, from 0.
        """
        if self.single or len(numbers) == len(items_of(self.call.value, self.resource)):
            return self
        body = self.call.json()
        body[self.resource.key] = [body[self.resource.key][number] for number in numbers]
        ids = tuple(self.ids[number] for number in numbers) if self.ids else ()
        return replace(self, call=self.call.with_(json=body), ids=ids)

    def one_by_one(self) -> list[Draft]:
        """Each thing by itself, in the form of a request for one."""
        if self.single:
            return [self]
        items = self.call.json()[self.resource.key]
        ids: list[tuple[str, ...]] = [(identifier,) for identifier in self.ids] or [()] * len(items)
        return [
            replace(self, call=self.call.with_(json={self.resource.item: item}), ids=each, single=True)
            for item, each in zip(items, ids, strict=True)
        ]

    def ids_in(self, created: Reply) -> list[str]:
        """The ids that a site has given. A key pair's is its name."""
        name = "name" if self.resource.key == "keypairs" else "id"
        return [str(made[name]) for made in items_of(created.json(), self.resource)]

    def deletions(self, created: Reply) -> list[Call]:
        """The requests that delete it again."""
        return [self._delete_at(self._path(identifier)) for identifier in self.ids_in(created)]

    def copy(self, identifier: str, requester: Requester | None) -> Operation:
        """What creates one thing at a site that is to have it later. If that site lacks what it is a part of, it needn't."""
        operation = Operation.of("", of_user(self.call, requester), "can't be reached", requester)
        return replace(operation, about=self._path(identifier))

    def removals(self, sites: Iterable[str], requester: Requester | None) -> dict[str, list[Operation]]:
        """What makes sure that it is not at these sites, without knowing whether it is; nothing if it could not be found."""
        if not self.traceable:
            return {}
        if self.tag:
            name = str(items_of(self.call.value, self.resource)[0].get("name", ""))
            deletions = [self._delete_at(self.call.path, find_tagged(name))]
        else:
            deletions = [self._delete_at(self._path(identifier)) for identifier in self.ids]
        return {
            site: [replace(Operation.of(site, each, "being created", requester, unsure=True), tag=self.tag) for each in deletions]
            for site in sites
        }

    def _path(self, identifier: str) -> str:
        return f"{self.call.path}/{segment(identifier)}"

    def _delete_at(self, path: str, query: str = "") -> Call:
        plain = self.call.with_()
        plain.headers.popall(GIVEN_ID, None)
        return plain.with_(method="DELETE", path=path, body=None, query=query)


def draft(call: Call, resource: Resource, *, several: bool, traced: bool) -> Draft:
    """Prepare a creation.

    Args:
        call: the client's POST.
        resource: what is created.
        several: at more than one site.
        traced: it must be possible to find it again.

    Raises:
        ValueError: it can't be created at several sites; why, for people.
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
            chosen.headers[GIVEN_ID] = "1"  # Glance takes an id from its gateway, and not from a user
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
    """Return a call that means the same without the user's token: a key pair's name is unique only among those of its user.

    If nobody knows who asked, no key pair is meant.
    """
    parts = call.path.split("/")
    if call.service != "compute" or "os-keypairs" not in parts:
        return call
    asked = parse_qsl(call.query, keep_blank_values=True)
    if any(name == "user_id" for name, _ in asked) and microversion(call.headers) >= _KNOWS_USERS:
        return call
    # Earlier versions pass over a user that the query names.
    query = [(name, value) for name, value in asked if name != "user_id"]
    said = call.with_(query=urlencode([*query, ("user_id", requester.user if requester else "")]))
    said.headers["OpenStack-API-Version"] = "compute 2.10"
    said.headers.popall("X-OpenStack-Nova-API-Version", None)
    return said
