"""Moves a port that nothing uses yet from the site where it was made to the site where it is needed, under the same id and address.

Two sites must never both keep it, and never neither. So the copy here is made first, after a note in the ledger; then the port is deleted
at its site, with the user's token and only if it is still the revision that was copied; then the note goes. Until that deletion is
confirmed, the copy here is provisional: if the deletion is refused, or the port turns out to be still there, the copy goes. `run` settles
what a crash or a cut has left open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from atoll.gateway.answers import GONE, words
from atoll.gateway.bring.asking import LOOK_S, MAKE_S, Asker, Found, Refusal
from atoll.gateway.bring.holders import Holders, question
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import PORT
from atoll.gateway.request.call import Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID, request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

SETTLED_S = 30.0
"""Seconds during which a deletion whose outcome is unknown may still come out of some buffer."""

LOOK_EVERY_S = 10.0
"""Seconds between two looks at moves that are open."""

COPIED = (
    *("id", "name", "description", "project_id", "network_id", "admin_state_up", "mac_address", "fixed_ips", "security_groups"),
    *("allowed_address_pairs", "extra_dhcp_opts", "port_security_enabled", "dns_name", "dns_domain", "qos_policy_id"),
    *("binding:vnic_type", "binding:profile", "propagate_uplink_status", "numa_affinity_policy", "hints", "hardware_offload_type"),
    *("device_profile", "trusted", "pvlan_type", "pvlan_community", "tags"),
)
"""Attributes that a port has after it was moved as before."""

OWN: Mapping[str, str] = {
    "tenant_id": "another name of `project_id`",
    "device_id": "an unbound port has none",
    "device_owner": "an unbound port has none",
    "binding:host_id": "an unbound port has none",
    "data_plane_status": "said by what carries its packets",
}
"""Attributes that a moved port has not, and why."""

_USUAL: Mapping[str, Any] = {
    "admin_state_up": True,
    "port_security_enabled": True,
    "binding:vnic_type": "normal",
    "propagate_uplink_status": True,
    "trusted": False,
}
"""Values that a port has if nobody gives others. To give them takes rights or extensions that may not be there."""

_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Moves:
    """Moves ports to this site.

    Args:
        sites: the sites.
        ledger: where moves are noted.
        holders: describes what this site has.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders
        self._active: set[str] = set()

    async def move(self, asker: Asker, found: Found) -> None:
        """Move a port to this site, with the user's rights; what it refers to is here, and `check` was content.

        Args:
            asker: of the user's request.
            found: the port, at its site.

        Raises:
            Refusal: it was changed meanwhile, or would differ here from what it is there.
            Unreachable: a service does not answer.
        """
        port: dict[str, Any] = found.body
        identifier = str(port["id"])
        if identifier in self._active or identifier in {each for each, _site, _since in self._ledger.moves()}:
            raise Refusal(f"port {identifier} is on its way from {found.site} to {self._sites.here}: try again in a minute")
        if await self._holders.here(PORT, identifier) is not None:
            # Not to be taken for the copy, which goes if the move fails.
            raise Refusal(f"port {identifier} is at {found.site} and can't be moved to {self._sites.here}, which has another with this id")
        self._active.add(identifier)
        self._ledger.begin_move(identifier, found.site, time.time())
        try:
            await self._copy(asker, port, found.site)
            try:
                await self._compare(asker, port, found.site)
                await self._delete_there(asker, port, found.site)
            except Refusal:
                await self._drop(identifier, asker.request_id)
                raise
        finally:
            self._active.discard(identifier)
        self._ledger.end_move(identifier)
        LOG.info("%s: port %s has moved here from %s", asker.request_id, identifier, found.site)

    async def check(self, asker: Asker, found: Found) -> None:
        """Make sure that nothing at a port's site uses it.

        Args:
            asker: of the user's request.
            found: the port, at its site.

        Raises:
            Refusal: something does.
            Unreachable: the site does not answer.
        """
        port, site = found.body, found.site
        why = f"port {port['id']} is at {site}, and {{}}: it can't be moved to {self._sites.here}"
        if port.get("device_id") or port.get("device_owner") or port.get("binding:host_id"):
            raise Refusal(why.format(f"in use there by {port.get('device_owner') or 'a device'} {port.get('device_id', '')}".rstrip()))
        call = asker.call("GET", "atoll", question(PORT, port["id"]), "")
        reply = await self._sites.send(site, call, LOOK_S)
        if not reply.ok:
            raise Refusal(why.format("its gateway does not say whether it is in use"))
        if used := reply.json().get("used"):
            raise Refusal(why.format(f"{used} refers to it"))

    async def _copy(self, asker: Asker, port: Mapping[str, Any], site: str) -> None:
        said = {name: port[name] for name in COPIED if name in port and port[name] not in _EMPTY and port[name] != _USUAL.get(name)}
        tags = said.pop("tags", None)
        said |= {"security_groups": port.get("security_groups", []), "fixed_ips": port.get("fixed_ips", [])}
        call = asker.call("POST", "network", "/v2.0/ports", asker.token, {"port": said})
        call.headers[GIVEN_ID] = "1"
        made = await self._sites.send(self._sites.here, call, MAKE_S)
        if not made.ok:
            self._ledger.end_move(port["id"])
            raise Refusal(f"port {port['id']} is at {site} and can't be moved to {self._sites.here}: {words(made)}")
        if tags:
            path = f"/v2.0/ports/{segment(port['id'])}/tags"
            await self._sites.send(self._sites.here, asker.call("PUT", "network", path, asker.token, {"tags": tags}), MAKE_S)

    async def _compare(self, asker: Asker, port: Mapping[str, Any], site: str) -> None:
        """Raises Refusal if anything would be lost."""
        now = (await asker.get(self._sites.here, "network", f"/v2.0/ports/{segment(port['id'])}") or {}).get("port", {})
        if different := [name for name in COPIED if name in port and _plain(port[name]) != _plain(now.get(name))]:
            differ = ", ".join(different)
            raise Refusal(f"port {port['id']} is at {site} and would not be the same at {self._sites.here}: {differ} would differ")

    async def _delete_there(self, asker: Asker, port: Mapping[str, Any], site: str) -> None:
        call = asker.call("DELETE", "network", f"/v2.0/ports/{segment(port['id'])}", asker.token)
        call.headers["If-Match"] = f"revision_number={port['revision_number']}"
        self._ledger.begin_move(port["id"], site, time.time())  # from now on it may be gone there
        try:
            reply = await self._sites.send(site, call, MAKE_S)
        except Unreachable as error:
            if not error.sent:
                raise Refusal(f"port {port['id']} is at {site}, which can't be reached now", 503) from error
            raise  # nobody knows whether it is deleted: `run` finds out
        if not reply.ok:
            raise Refusal(f"port {port['id']} is at {site} and can't be moved to {self._sites.here}: {_why(reply)}")

    async def _drop(self, port: str, request: str) -> None:
        """Delete the provisional copy, which is this gateway's own; the note stays if that fails."""
        asker = Asker(self._sites, await self._sites.own_token("network"), request)
        call = asker.call("DELETE", "network", f"/v2.0/ports/{segment(port)}", asker.token)
        try:
            reply = await self._sites.send(self._sites.here, call, MAKE_S)
        except Unreachable:
            return
        if reply.ok or reply.status in GONE:
            self._ledger.end_move(port)

    # What was left open

    async def run(self) -> None:
        """Settle moves that a crash or a cut has left open, until cancelled."""
        while True:
            for port, site, since in self._ledger.moves():
                if port not in self._active and time.time() - since > SETTLED_S + MAKE_S:
                    await self._settle(port, site)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _settle(self, port: str, site: str) -> None:
        asker = Asker(self._sites, "", request_id(None))
        try:
            reply = await self._sites.send(site, asker.call("GET", "atoll", question(PORT, port), ""), LOOK_S)
            here = await self._holders.here(PORT, port)
        except Unreachable as error:
            LOG.info("whether port %s has moved here can't be seen: %s", port, error)
            return
        if here is None or reply.status == 404:
            self._ledger.end_move(port)
        elif reply.ok and not here.body.get("device_id"):
            LOG.warning("port %s is still at %s: its copy here goes", port, site)
            await self._drop(port, asker.request_id)
        elif reply.ok:
            LOG.error("port %s is at %s, and in use here: delete it there", port, site)
            self._ledger.end_move(port)


def _plain(value: Any) -> Any:
    """A value as it is compared: lists in any order."""
    if value in _EMPTY:
        return None
    return sorted(map(str, value)) if isinstance(value, list) else value


def _why(reply: Reply) -> str:
    return "it has been changed meanwhile" if reply.status in {404, 412} else words(reply)
