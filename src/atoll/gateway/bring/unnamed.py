"""The network of a server that names none: the only one that its project may use, at any site.

Nova attaches a server without a network, or with `auto`, to the only network of its project, and refuses it if there are several. It knows
those of its own site, so that without this a server would run without any network where the project's only one is at another site.
"""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.gateway.bring.asking import Asker, Refusal
from atoll.gateway.bring.references import NETWORK, Reference
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import microversion

NAMED = (2, 37)
"""The first of Nova's microversions in which a server has to name a network, or say `auto` or `none`."""

AMBIGUOUS = "Multiple possible networks found, use a Network ID to be more specific."
"""Nova's own words (nova/network/neutron.py, `_ports_needed_per_instance`)."""

_LIST = "/v2.0/networks?fields=id&fields=project_id&fields=shared"


def names_none(call: Call) -> bool:
    """Return whether a request for a server leaves the choice of a network to Nova."""
    try:
        body = call.value
        server = body["server"]
        networks = server.get("networks")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # Nova says what is wrong with it
    if networks is None and "networks" not in server:
        return microversion(call.headers) < NAMED
    return networks in ("auto", [])


async def only_network(asker: Asker, project: str) -> Reference | None:
    """Return the only network that a project may use, if this site lacks it; `None` if it has it, or if there is none at all.

    Args:
        asker: of the request.
        project: the project's id.

    Raises:
        Refusal: there are several; or there is none here, and a site that can't be reached may have one.
        Unreachable: this site's Neutron does not answer.
    """
    here = await _usable(asker, asker.sites.here, project) or set()
    if len(here) > 1:
        return None  # Nova says so itself
    there = asker.sites.reachable()
    found = await asyncio.gather(*(_usable_elsewhere(asker, site, project) for site in there))
    everywhere = here.union(*(each for each in found if each is not None))
    if len(everywhere) > 1:
        raise Refusal(AMBIGUOUS)
    silent = sorted({site for site, each in zip(there, found, strict=True) if each is None} | (set(asker.sites.others()) - set(there)))
    if not everywhere and silent:
        raise Refusal(f"no network was named, and {asker.sites.here} has none of this project", 503, silent)
    return Reference(NETWORK, everywhere.pop()) if everywhere - here else None


async def _usable(asker: Asker, site: str, project: str) -> set[str] | None:
    """The ids of the networks that Nova would choose from; None if the site does not say."""
    answer = await asker.get(site, "network", _LIST)
    if answer is None:
        return None
    networks: list[dict[str, Any]] = answer["networks"]
    return {network["id"] for network in networks if network.get("project_id") == project or network.get("shared")}


async def _usable_elsewhere(asker: Asker, site: str, project: str) -> set[str] | None:
    try:
        return await _usable(asker, site, project)
    except Unreachable:
        return None
