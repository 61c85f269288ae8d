"""The identity and the owner of a resource, compared before a request is carried out on its copy at another site.

A gateway reads each copy before it changes it. A pending operation keeps the identity of the copy, and the site that carries it out later
compares it with the object that has the same id there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from atoll.gateway.copies.pending_operation import resource_of
from atoll.gateway.request.call import Call, Reply

Identity = Mapping[str, str]
"""The fields that identify an object besides its id. `owner` is its project."""

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "images": {"owner": "owner", "hash": "os_hash_value"},
    "servers": {"owner": "tenant_id"},
    "flavors": {"name": "name", "ram": "ram", "vcpus": "vcpus", "disk": "disk"},
    "os-keypairs": {"user": "user_id", "fingerprint": "fingerprint"},
}
"""The name that each field of an identity has in an answer, by collection."""

_NETWORK = {"owner": "project_id"}
_PARENTS = {"subnets": {"network": "network_id", "cidr": "cidr"}, "security-group-rules": {"group": "security_group_id"}}

_PATH = re.compile(r"/v[^/]+(?:/[0-9a-f]{32})?/([^/]+)/([^/]+)")
_SETTINGS = frozenset(("os-quota-sets", "os-quota-class-sets", "quotas"))


def collection_of(service: str, path: str) -> str:
    """Return the name of the collection of a request's object (`images`).

    The name is empty for a setting such as a quota, which is not an object.
    """
    found = _PATH.match(path)
    name = found[1].removesuffix(".json") if found else ""
    return "" if name in _SETTINGS or not service else name


def identity(service: str, path: str, body: Any) -> dict[str, str]:
    """Return the identity of an object in a service's answer.

    Args:
        service: the service.
        path: the object's path.
        body: the answer.

    Returns:
        The identifying fields that the answer shows.
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
    """Return the fields in which two identities differ.

    A field that one of them lacks, such as the hash of an image without data, is not a difference.
    """
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])


def read(call: Call, reply: Reply) -> dict[str, str]:
    """Return the identity of the object in the answer to a request."""
    try:
        return identity(call.service, resource_of(call.path), reply.json()) if reply.ok and reply.body else {}
    except (ValueError, StopIteration):
        return {}
