"""Finds the resources that use a port at its site.

The site's gateway searches with its own account, because a resource of another project may use the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.references import PORT
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.references import NETWORKING, Field

USERS: Mapping[str, tuple[str, str]] = {
    "floatingips": ("a floating IP", "/v2.0/floatingips"),
    "trunks": ("a trunk", "/v2.0/trunks"),
    "tap_services": ("a tap service", "/v2.0/taas/tap_services"),
    "tap_flows": ("a tap flow", "/v2.0/taas/tap_flows"),
    "tap_mirrors": ("a tap mirror", "/v2.0/taas/tap_mirrors"),
    "port_pairs": ("a port pair", "/v2.0/sfc/port_pairs"),
    "flow_classifiers": ("a flow classifier", "/v2.0/sfc/flow_classifiers"),
    "logs": ("a log", "/v2.0/log/logs"),
    "local_ips": ("a local IP", "/v2.0/local-ips"),
    "ndp_proxies": ("an NDP proxy", "/v2.0/ndp-proxies"),
}
"""The resources that may refer to a port: a name for messages and the path of the list, by the collection's name in
`resolve.references`."""


async def user_of(client: ServiceClient, port: str) -> str:
    """Return the name of a kind of resource that refers to a port of this site; empty if none does.

    Args:
        client: a client with the gateway's own account.
        port: the port's id.

    Raises:
        Unreachable: Neutron does not answer.
    """
    looked = [(collection, field.path) for collection in USERS for field in NETWORKING[collection] if _names_ports(field)]
    found = await asyncio.gather(*(_uses(client, *each, port) for each in looked), _forwards(client, port))
    return next((each for each in found if each), "")


async def _uses(client: ServiceClient, collection: str, name: str, port: str) -> str:
    label, path = USERS[collection]
    return label if any(each.get(name) == port for each in await _listed(client, f"{path}?{urlencode({name: port})}")) else ""


async def _forwards(client: ServiceClient, port: str) -> str:
    for address in await _listed(client, "/v2.0/floatingips"):
        if address.get("port_forwardings"):
            path = f"/v2.0/floatingips/{segment(address['id'])}/port_forwardings?{urlencode({'internal_port_id': port})}"
            if any(each["internal_port_id"] == port for each in await _listed(client, path)):
                return "a port forwarding"
    return ""


async def _listed(client: ServiceClient, target: str) -> list[dict[str, Any]]:
    """Return the items of a list; none if the site has no such resources."""
    answer = await client.get(client.sites.here, "network", target) or {}
    return next((each for each in answer.values() if isinstance(each, list)), [])


def _names_ports(field: Field) -> bool:
    return field.kind == PORT and "." not in field.path and not field.path.endswith("[]")
