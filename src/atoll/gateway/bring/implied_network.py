"""Finds the network of a server that names none: the only one that its project may use, at any site.

Nova attaches a server without a network, or with `auto`, to the only network of its project, and refuses the server if there are several.
Nova knows only the networks of its own site: without this module, a server would run without any network if the project's only one is at
another site.
"""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.gateway.bring.references import NETWORK, Reference
from atoll.gateway.bring.service_client import BringRefused, ServiceClient
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import microversion

NAMED = (2, 37)
"""Nova's first microversion in which a server must name a network, or `auto` or `none`."""

AMBIGUOUS = "Multiple possible networks found, use a Network ID to be more specific."
"""Nova's message if a project has several networks (nova/network/neutron.py, `_ports_needed_per_instance`)."""

_LIST = "/v2.0/networks?fields=id&fields=project_id&fields=shared"


def names_none(call: Call) -> bool:
    """Return whether a request for a server leaves the choice of a network to Nova."""
    try:
        body = call.value
        server = body["server"]
        networks = server.get("networks")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # Nova refuses the body
    if networks is None and "networks" not in server:
        return microversion(call.headers) < NAMED
    return networks in ("auto", [])


async def only_network(client: ServiceClient, project: str) -> Reference | None:
    """Return the only network that a project may use, if this site lacks it; `None` if this site has it, or if there is none.

    Args:
        client: the client of the user's request.
        project: the project's id.

    Raises:
        BringRefused: the project may use several networks; or none is here, and an unreachable site may have one.
        Unreachable: this site's Neutron does not answer.
    """
    here = await _usable(client, client.sites.here, project) or set()
    if len(here) > 1:
        return None  # Nova refuses the server itself
    there = client.sites.reachable("network")
    found = await asyncio.gather(*(_usable_elsewhere(client, site, project) for site in there))
    everywhere = here.union(*(each for each in found if each is not None))
    if len(everywhere) > 1:
        raise BringRefused(AMBIGUOUS)
    away = set(client.sites.others("network")) - set(there)
    silent = sorted({site for site, each in zip(there, found, strict=True) if each is None} | away)
    if not everywhere and silent:
        raise BringRefused(f"no network was named, and {client.sites.here} has none of this project", 503, silent)
    return Reference(NETWORK, everywhere.pop()) if everywhere - here else None


async def _usable(client: ServiceClient, site: str, project: str) -> set[str] | None:
    """Return the ids of the networks from which Nova would choose; `None` if the site gives no list."""
    answer = await client.get(site, "network", _LIST)
    if answer is None:
        return None
    networks: list[dict[str, Any]] = answer["networks"]
    return {network["id"] for network in networks if network.get("project_id") == project or network.get("shared")}


async def _usable_elsewhere(client: ServiceClient, site: str, project: str) -> set[str] | None:
    try:
        return await _usable(client, site, project)
    except Unreachable:
        return None
