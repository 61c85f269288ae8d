"""Whose a resource is, and which one: what is compared before the same request is carried out on its copy at another site.

A site that carries out a request says in its answer which object it was about, in `X-Atoll-Identity`. A pending operation keeps it, and the
site that does it later compares it with the object that has the same id there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from atoll.gateway.copies.operation import resource_of
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import IDENTIFY, IDENTITY
from atoll.gateway.resolve import sight

if TYPE_CHECKING:
    from atoll.gateway.sites import Sites, Upstream

Identity = Mapping[str, str]
"""The fields that identify an object apart from its id. `owner` is its project."""

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "images": {"owner": "owner", "hash": "os_hash_value"},
    "servers": {"owner": "tenant_id"},
    "flavors": {"name": "name", "ram": "ram", "vcpus": "vcpus", "disk": "disk"},
    "os-keypairs": {"user": "user_id", "fingerprint": "fingerprint"},
}
"""By collection, what each field of an identity is called in an answer."""

_NETWORK = {"owner": "project_id"}
_PARENTS = {"subnets": {"network": "network_id", "cidr": "cidr"}, "security-group-rules": {"group": "security_group_id"}}

_PATH = re.compile(r"/v[^/]+(?:/[0-9a-f]{32})?/([^/]+)/([^/]+)")
_SETTINGS = frozenset(("os-quota-sets", "os-quota-class-sets", "quotas"))


def collection_of(service: str, path: str) -> str:
    """Return the name of the collection that a request's object is in (`images`).

    It is empty for a setting such as a quota, which is no object.
    """
    found = _PATH.match(path)
    name = found[1].removesuffix(".json") if found else ""
    return "" if name in _SETTINGS or not service else name


def identity(service: str, path: str, body: Any) -> dict[str, str]:
    """Read the identity of an object from a service's answer about it.

    Args:
        service: the service.
        path: the object's path.
        body: the answer.

    Returns:
        What the answer says of it; nothing if it says nothing.
    """
    collection = collection_of(service, path)
    fields = _FIELDS.get(collection) or ({**_NETWORK, **_PARENTS.get(collection, {})} if service == "network" else {})
    if not isinstance(body, dict):
        return {}
    thing = body if service == "image" else next(iter(body.values()), None)
    if not isinstance(thing, dict):
        return {}
    return {name: str(thing[theirs]) for name, theirs in fields.items() if thing.get(theirs) is not None}


def differences(one: Identity, other: Identity) -> list[str]:
    """Name the fields in which two identities differ; a field that one lacks, as an image without data its hash, is no difference."""
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])


def looks(call: Call) -> bool:
    """Whether the object has to be looked at before the request: its answer won't tell."""
    return call.method not in {"PUT", "PATCH"} or call.path != resource_of(call.path)


async def look(sites: Sites, call: Call) -> dict[str, str]:
    """Ask a service of this site which object a request is about, with the caller's own rights; nothing if it does not say.

    Args:
        sites: to ask.
        call: the request, which is not carried out.
    """
    if not collection_of(call.service, call.path):
        return {}
    path = resource_of(call.path)
    asked = call.with_(method="GET", path=path, query=call.query if "user_id=" in call.query else "", body=None)
    try:
        reply = await sites.send(sites.here, asked)
        if reply.status in sight.REFUSALS:
            reply = await sight.see(sites, sites.here, call.token, call.service, asked.target)
    except Unreachable:
        return {}
    return read(asked, reply)


def read(call: Call, reply: Reply) -> dict[str, str]:
    """Read the identity from the answer to a request about an object."""
    try:
        return identity(call.service, resource_of(call.path), reply.json()) if reply.ok and reply.body else {}
    except (ValueError, StopIteration):
        return {}


def identity_in(reply: Reply) -> dict[str, str]:
    """Return the identity that another gateway has put into an answer; nothing if there is none."""
    try:
        said = orjson.loads(reply.headers.get(IDENTITY, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}


async def carried_out(sites: Sites, call: Call, carry_out: Callable[[Call], Awaitable[Reply | Upstream]]) -> Reply:
    """Have a service of this site carry out a request, and say in the answer which object it was about.

    Args:
        sites: to ask.
        call: the request.
        carry_out: sends it to the service.

    Raises:
        Unreachable: the service does not answer.
    """
    call = call.with_()
    call.headers.popall(IDENTIFY, None)
    known = await look(sites, call) if looks(call) else {}
    answer = await carry_out(call)
    reply = answer if isinstance(answer, Reply) else await answer.read()
    if reply.ok and (known := known or read(call, reply)):
        reply.headers[IDENTITY] = orjson.dumps(known).decode()
    return reply
