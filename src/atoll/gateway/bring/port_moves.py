"""Moves an unused port from the site where it was made to the site where it is needed, under the same id and address.

The port must never stay at both sites, and never be lost. So the gateway first records the move in the ledger and creates the copy here.
Then it deletes the port at its site, with the user's token and only if its revision is still the copied one. Then it removes the ledger
entry. Until that deletion is confirmed, the copy here is provisional: if the deletion is refused, or the port turns out to be still there,
the copy is deleted. `run` completes or undoes the moves that a crash or a lost connection left open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from atoll.gateway.answers import GONE, error_text
from atoll.gateway.bring.holders import Holders, question
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import PORT
from atoll.gateway.bring.service_client import LOOK_S, MAKE_S, BringRefused, RemoteResource, ServiceClient
from atoll.gateway.request.call import GATEWAY, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID, request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

SETTLED_S = 30.0
"""Seconds during which a deletion request of unknown outcome may still arrive from a buffer of the network."""

LOOK_EVERY_S = 10.0
"""Seconds between two checks of open moves."""

COPIED = (
    *("id", "name", "description", "project_id", "network_id", "admin_state_up", "mac_address", "fixed_ips", "security_groups"),
    *("allowed_address_pairs", "extra_dhcp_opts", "port_security_enabled", "dns_name", "dns_domain", "qos_policy_id"),
    *("binding:vnic_type", "binding:profile", "propagate_uplink_status", "numa_affinity_policy", "hints", "hardware_offload_type"),
    *("device_profile", "trusted", "pvlan_type", "pvlan_community", "tags"),
)
"""Attributes that a port keeps when it is moved."""

OWN: Mapping[str, str] = {
    "tenant_id": "another name of `project_id`",
    "device_id": "an unbound port has none",
    "device_owner": "an unbound port has none",
    "binding:host_id": "an unbound port has none",
    "data_plane_status": "reported by the data plane",
}
"""Attributes that a moved port does not keep, with the reason."""

_USUAL: Mapping[str, Any] = {
    "admin_state_up": True,
    "port_security_enabled": True,
    "binding:vnic_type": "normal",
    "propagate_uplink_status": True,
    "trusted": False,
}
"""Default values of a port, which are not sent, because sending them requires rights or extensions that may be missing."""

_EMPTY: tuple[Any, ...] = (None, "", [], {})


class PortMoves:
    """The moves of ports to this site.

    Args:
        sites: sends requests to the sites.
        ledger: records the moves.
        holders: describes this site's resources.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders
        self._active: set[str] = set()
        self._seen_s: dict[str, float] = {}

    async def move(self, client: ServiceClient, found: RemoteResource) -> None:
        """Move a port to this site with the user's rights, after `check` and after its references have been brought.

        Args:
            client: the client of the user's request.
            found: the port at its site.

        Raises:
            BringRefused: the port has changed meanwhile, or its copy here would differ.
            Unreachable: a service does not answer.
        """
        port: dict[str, Any] = found.body
        identifier = str(port["id"])
        if identifier in self._active or identifier in {each for each, _site, _since in self._ledger.moves()}:
            raise BringRefused(f"port {identifier} is on its way from {found.site} to {self._sites.here}: try again in a minute")
        if await self._holders.here(PORT, identifier) is not None:
            # It must not be mistaken for the copy, which is deleted if the move fails.
            raise BringRefused(
                f"port {identifier} is at {found.site} and can't be moved to {self._sites.here}, which has another port with this id"
            )
        self._active.add(identifier)
        self._ledger.begin_move(identifier, found.site, time.time())
        try:
            await self._copy(client, port, found.site)
            try:
                await self._compare(client, port, found.site)
                await self._delete_there(client, port, found.site)
            except BringRefused:
                await self._drop(identifier, client.request_id)
                raise
        finally:
            self._active.discard(identifier)
            self._seen_s.pop(identifier, None)  # an earlier move of the port must not be mistaken for this one
        self._ledger.end_move(identifier)
        LOG.info("%s: port %s has moved here from %s", client.request_id, identifier, found.site)

    async def check(self, client: ServiceClient, found: RemoteResource) -> None:
        """Check that nothing at a port's site uses the port.

        Args:
            client: the client of the user's request.
            found: the port at its site.

        Raises:
            BringRefused: a resource uses the port.
            Unreachable: the site does not answer.
        """
        port, site = found.body, found.site
        why = f"port {port['id']} is at {site}, and {{}}: it can't be moved to {self._sites.here}"
        if port.get("device_id") or port.get("device_owner") or port.get("binding:host_id"):
            raise BringRefused(why.format(f"in use there by {port.get('device_owner') or 'a device'} {port.get('device_id', '')}".rstrip()))
        call = client.call("GET", GATEWAY, question(PORT, port["id"]), "")
        reply = await self._sites.send(site, call, LOOK_S)
        if not reply.ok:
            raise BringRefused(why.format("its gateway does not answer whether it is in use"))
        if used := reply.json().get("used"):
            raise BringRefused(why.format(f"{used} refers to it"))

    async def _copy(self, client: ServiceClient, port: Mapping[str, Any], site: str) -> None:
        said = {name: port[name] for name in COPIED if name in port and port[name] not in _EMPTY and port[name] != _USUAL.get(name)}
        tags = said.pop("tags", None)
        said |= {"security_groups": port.get("security_groups", []), "fixed_ips": port.get("fixed_ips", [])}
        call = client.call("POST", "network", "/v2.0/ports", client.token, {"port": said})
        call.headers[GIVEN_ID] = "1"
        made = await self._sites.send(self._sites.here, call, MAKE_S)
        if not made.ok:
            self._ledger.end_move(port["id"])
            raise BringRefused(f"port {port['id']} is at {site} and can't be moved to {self._sites.here}: {error_text(made)}")
        if tags:
            path = f"/v2.0/ports/{segment(port['id'])}/tags"
            await self._sites.send(self._sites.here, client.call("PUT", "network", path, client.token, {"tags": tags}), MAKE_S)

    async def _compare(self, client: ServiceClient, port: Mapping[str, Any], site: str) -> None:
        """Check that the copy has all attributes of the port.

        Raises:
            BringRefused: an attribute differs.
        """
        now = (await client.get(self._sites.here, "network", f"/v2.0/ports/{segment(port['id'])}") or {}).get("port", {})
        if different := [name for name in COPIED if name in port and _plain(port[name]) != _plain(now.get(name))]:
            differ = ", ".join(different)
            raise BringRefused(f"port {port['id']} is at {site} and would not be the same at {self._sites.here}: {differ} would differ")

    async def _delete_there(self, client: ServiceClient, port: Mapping[str, Any], site: str) -> None:
        call = client.call("DELETE", "network", f"/v2.0/ports/{segment(port['id'])}", client.token)
        call.headers["If-Match"] = f"revision_number={port['revision_number']}"
        self._ledger.begin_move(port["id"], site, time.time())  # from now on the port may be deleted there
        try:
            reply = await self._sites.send(site, call, MAKE_S)
        except Unreachable as error:
            if not error.sent:
                raise BringRefused(f"port {port['id']} is at {site}, which can't be reached now", 503) from error
            raise  # the outcome is unknown: `run` completes or undoes the move
        if not reply.ok:
            raise BringRefused(f"port {port['id']} is at {site} and can't be moved to {self._sites.here}: {_why(reply)}")

    async def _drop(self, port: str, request: str) -> None:
        """Delete the provisional copy, which belongs to this gateway. The ledger entry stays if that fails."""
        client = ServiceClient(self._sites, await self._sites.own_token("network"), request)
        call = client.call("DELETE", "network", f"/v2.0/ports/{segment(port)}", client.token)
        try:
            reply = await self._sites.send(self._sites.here, call, MAKE_S)
        except Unreachable:
            return
        if reply.ok or reply.status in GONE:
            self._ledger.end_move(port)

    # Moves that were left open

    async def run(self) -> None:
        """Complete or undo the moves that a crash or a lost connection left open, until cancelled."""
        while True:
            for port, site in self._due(time.monotonic()):
                await self._settle(port, site)
            await asyncio.sleep(LOOK_EVERY_S)

    def _due(self, now_s: float) -> list[tuple[str, str]]:
        """Return the ports and sites of the moves that this process has seen open for longer than any request about them can take.

        The times in the ledger are not used: the clock may have been set since. Settling a move while its request still runs could delete a
        port that is in use.
        """
        sites = {port: site for port, site, _since in self._ledger.moves() if port not in self._active}
        self._seen_s = {port: self._seen_s.get(port, now_s) for port in sites}
        return [(port, sites[port]) for port, since_s in self._seen_s.items() if now_s - since_s > SETTLED_S + MAKE_S]

    async def _settle(self, port: str, site: str) -> None:
        client = ServiceClient(self._sites, "", request_id(None))
        try:
            reply = await self._sites.send(site, client.call("GET", GATEWAY, question(PORT, port), ""), LOOK_S)
            here = await self._holders.here(PORT, port)
        except Unreachable as error:
            LOG.info("can't check whether port %s has moved here: %s", port, error)
            return
        if here is None or reply.status == 404:
            self._ledger.end_move(port)
        elif reply.ok and not here.body.get("device_id"):
            LOG.warning("port %s is still at %s: deleting its copy here", port, site)
            await self._drop(port, client.request_id)
        elif reply.ok:
            LOG.error("port %s is at %s, and in use here: delete it there", port, site)
            self._ledger.end_move(port)


def _plain(value: Any) -> Any:
    """Return a value normalised for comparison: lists without order, empty values as `None`."""
    if value in _EMPTY:
        return None
    return sorted(map(str, value)) if isinstance(value, list) else value


def _why(reply: Reply) -> str:
    return "it has been changed meanwhile" if reply.status in {404, 412} else error_text(reply)
