"""What the body of a request refers to. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from atoll.gateway.request.call import Call

IMAGE = "image"
FLAVOR = "flavor"
KEY_PAIR = "key pair"
SECURITY_GROUP = "security group"
NETWORK = "network"
SUBNET = "subnet"


@dataclass(frozen=True, order=True)
class Reference:
    """Something that a request names.

    Attributes:
        kind: one of the constants above.
        id: its id; the name of a key pair; either, for a security group (Nova takes both).
    """

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def references(call: Call) -> list[Reference]:
    """What a request refers to, each once, in the order in which it must be made.

    Args:
        call: a POST or PUT with a JSON body, or anything else, which refers to nothing.
    """
    try:
        body = call.json()
    except ValueError:
        return []
    if not isinstance(body, dict):
        return []
    found: set[Reference] = set()
    for service, pattern, read in _READERS:
        if service == call.service and pattern.fullmatch(call.path):
            found.update(Reference(kind, name) for kind, name in read(body) if isinstance(name, str) and name)
    return sorted(found, key=lambda each: (_ORDER.index(each.kind), each.id))


_ORDER = (FLAVOR, KEY_PAIR, NETWORK, SUBNET, SECURITY_GROUP, IMAGE)
"""The image last: it takes longest, and all else can still go wrong."""

Named = Iterator[tuple[str, Any]]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _server(body: dict[str, Any]) -> Named:
    server = _dict(body.get("server"))
    yield IMAGE, _last(server.get("imageRef"))
    yield FLAVOR, _last(server.get("flavorRef"))
    yield KEY_PAIR, server.get("key_name")
    for group in _dicts(server.get("security_groups")):
        yield SECURITY_GROUP, group.get("name")
    for network in _dicts(server.get("networks")):
        yield NETWORK, network.get("uuid")
    for disk in _dicts(server.get("block_device_mapping_v2")):
        if disk.get("source_type") == "image":
            yield IMAGE, disk.get("uuid")


def _action(body: dict[str, Any]) -> Named:
    rebuild = _dict(body.get("rebuild"))
    yield IMAGE, _last(rebuild.get("imageRef"))
    yield KEY_PAIR, rebuild.get("key_name")
    yield FLAVOR, _last(_dict(body.get("resize")).get("flavorRef"))
    yield SECURITY_GROUP, _dict(body.get("addSecurityGroup")).get("name")


def _attachment(body: dict[str, Any]) -> Named:
    yield NETWORK, _dict(body.get("interfaceAttachment")).get("net_id")


def _of_network(body: dict[str, Any]) -> Named:
    """A port, subnet, router, floating IP or rule, or several of them; or an interface of a router."""
    yield SUBNET, body.get("subnet_id")
    for value in body.values():
        for item in (value, *_dicts(value)):
            each = _dict(item)
            gateway = _dict(each.get("external_gateway_info"))
            yield from ((NETWORK, holder.get(name)) for holder in (each, gateway) for name in ("network_id", "floating_network_id"))
            yield SUBNET, each.get("subnet_id")
            yield from ((SECURITY_GROUP, each.get(name)) for name in ("security_group_id", "remote_group_id"))
            groups = each.get("security_groups")
            yield from ((SECURITY_GROUP, group) for group in (groups if isinstance(groups, list) else ()))
            for address in (*_dicts(each.get("fixed_ips")), *_dicts(gateway.get("external_fixed_ips"))):
                yield SUBNET, address.get("subnet_id")


def _last(value: Any) -> Any:
    """Nova takes a URL for the id of an image or flavor."""
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else None


_COMPUTE = r"/v2(\.1)?(/[0-9a-f-]{32,36})?"
_READERS: tuple[tuple[str, re.Pattern[str], Callable[[dict[str, Any]], Named]], ...] = (
    ("compute", re.compile(_COMPUTE + r"/servers"), _server),
    ("compute", re.compile(_COMPUTE + r"/servers/[^/]+/action"), _action),
    ("compute", re.compile(_COMPUTE + r"/servers/[^/]+/os-interface"), _attachment),
    ("network", re.compile(r"/v2\.0/(ports|subnets|routers|floatingips|security-group-rules)(/[^/]+)?(\.json)?"), _of_network),
    ("network", re.compile(r"/v2\.0/routers/[^/]+/(add_router_interface|add_external_gateways)(\.json)?"), _of_network),
)
