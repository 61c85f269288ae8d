"""Whose a resource is, and which one: what is compared before the same request is carried out on its copy at another site.

Before copies are changed they are looked at. A pending operation keeps what identifies them, and the site that does it later compares that
with the object that has the same id there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from atoll.gateway.copies.operation import resource_of
from atoll.gateway.request.call import Call, Reply

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


def read(call: Call, reply: Reply) -> dict[str, str]:
    """Read the identity from the answer to a request about an object."""
    try:
        return identity(call.service, resource_of(call.path), reply.json()) if reply.ok and reply.body else {}
    except (ValueError, StopIteration):
        return {}
