"""The uses of a port at its site. The site's gateway looks with its own account: another project's resource may use a port, too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.asking import Asker
from atoll.gateway.bring.references import PORT
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
"""By collection of the table of references, what refers to a port: what one is called, and the path."""


async def user_of(asker: Asker, port: str) -> str:
    """Return what refers to a port of this site; empty if nothing does.

    Args:
        asker: with the gateway's own account.
        port: the port's id.

    Raises:
        Unreachable: Neutron does not answer.
    """
    looked = [(collection, field.path) for collection in USERS for field in NETWORKING[collection] if _names_ports(field)]
    found = await asyncio.gather(*(_uses(asker, *each, port) for each in looked), _forwards(asker, port))
    return next((each for each in found if each), "")


async def _uses(asker: Asker, collection: str, name: str, port: str) -> str:
    label, path = USERS[collection]
    return label if any(each.get(name) == port for each in await _listed(asker, f"{path}?{urlencode({name: port})}")) else ""


async def _forwards(asker: Asker, port: str) -> str:
    for address in await _listed(asker, "/v2.0/floatingips"):
        if address.get("port_forwardings"):
            path = f"/v2.0/floatingips/{segment(address['id'])}/port_forwardings?{urlencode({'internal_port_id': port})}"
            if any(each["internal_port_id"] == port for each in await _listed(asker, path)):
                return "a port forwarding"
    return ""


async def _listed(asker: Asker, target: str) -> list[dict[str, Any]]:
    """The items of a list; none if the site has no such resources."""
    answer = await asker.get(asker.sites.here, "network", target) or {}
    return next((each for each in answer.values() if isinstance(each, list)), [])


def _names_ports(field: Field) -> bool:
    return field.kind == PORT and "." not in field.path and not field.path.endswith("[]")
