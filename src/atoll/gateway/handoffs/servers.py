"""Servers of hand-offs in Nova: their description and their fence at the source, their creation at the destination.

What the user asks for is read and created with the user's token. A server is locked, stopped, started and deleted with the gateway's own
account. So its owner can't start it while it is stopped for the hand-off, and a hand-off ends although the token has expired.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from atoll.gateway.answers import GONE, error_text
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.handoffs.caller import project_of
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.incoming import Look
from atoll.gateway.handoffs.journal import Arrival, Departure
from atoll.gateway.local import LocalServices
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID, request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites
from atoll.identifiers import HANDOFF_HINT, HANDOFF_MACS_HINT, HANDOFF_SERVER_HINT

VERSION = "2.46"
"""Nova's API microversion: the last one in which a server shows the id of its flavor."""

LOCK_VERSION = "2.73"
"""The first microversion in which a lock has a reason, which administrators see."""

STOP_S = 180.0
"""Seconds within which a server must have stopped; Nova itself waits 60 s for the guest."""

LOOK_S = 0.3
"""Seconds between two looks at a server that is stopping, starting or being deleted."""

END_S = 180.0
"""Seconds to wait until Nova has ended a server's task, or has deleted a server; after that, the step fails and is repeated later."""

_ANSWER_S = 60.0
_QUOTAS = {"instances": "Instances", "cores": "Cores", "ram": "RAMSize"}


class ServersHere:
    """The servers of this site, read as their owner and changed with the gateway's account.

    Args:
        sites: sends requests to this site's services.
        local: brings what a new server refers to.
        sleep: waits for a number of seconds.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        sites: Sites,
        local: LocalServices,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sites = sites
        self._local = local
        self._sleep = sleep
        self._clock = clock

    # At the source

    async def owned(self, server: str, project: str, token: str) -> bool:
        """Return whether this site has a server of a user's project.

        Raises:
            Unreachable: Nova does not answer.
        """
        shown = await self._shown(server, token)
        return shown is not None and str(shown["tenant_id"]) == project

    async def describe(self, server: str, project: str, token: str) -> dict[str, Any]:
        """Return the server that the destination is to create.

        Raises:
            HandoffRefused: the user has no such server, or it can't be handed off as it is.
            Unreachable: a service does not answer.
        """
        shown = await self._shown(server, token)
        if shown is None or str(shown["tenant_id"]) != project:
            raise HandoffRefused(f"{self._sites.here} has no server {server} of your project", 404)
        whole = await self._shown(server, await self._sites.own_token("compute")) or shown
        _check_state(whole)
        ports = (await self._get("network", f"/v2.0/ports?device_id={segment(server)}", token)).get("ports", [])
        kept = {name: whole.get(name) for name in ("name", "description", "key_name", "metadata", "tags")}
        flavor = whole["flavor"]["id"]
        named = (await self._get("compute", f"/v2.1/flavors/{segment(flavor)}", token)).get("flavor", {})
        return kept | {
            "flavor": flavor,
            "flavor_name": named.get("name", flavor),
            "cores": named.get("vcpus", 0),
            "ram": named.get("ram", 0),
            "disk_gib": named.get("disk", 0),
            "image": whole["image"]["id"],
            "user_data": whole.get("OS-EXT-SRV-ATTR:user_data"),
            "config_drive": bool(whole.get("config_drive")),
            "networks": [{"network": port["network_id"], "mac": port["mac_address"]} for port in ports],
            "groups": sorted({group for port in ports for group in port["security_groups"]}),
            "active": whole["status"] == "ACTIVE",
        }

    async def fence(self, departure: Departure) -> None:
        """Lock and stop a server, and return when it is stopped.

        Raises:
            HandoffRefused: the server is gone or does not stop.
            Unreachable: Nova does not answer.
        """
        reason = f"hand-off {departure.id} to {departure.site}"
        await self._act(departure.server, {"lock": {"locked_reason": reason}})
        until = self._clock() + STOP_S
        asked = False
        while True:
            shown = await self._shown(departure.server, await self._sites.own_token("compute"))
            if shown is None:
                raise HandoffRefused("the server was deleted meanwhile", 404)
            status, busy = shown["status"], shown["OS-EXT-STS:task_state"]
            if busy is None:
                _check_same(shown, departure.wish)
            if status == "SHUTOFF" and busy is None and shown["OS-EXT-STS:power_state"] != 1:
                return
            if busy is None and status not in {"ACTIVE", "SHUTOFF"}:
                raise HandoffRefused(f"the server's status has changed to {status}: expected ACTIVE or SHUTOFF")
            if busy is None and status == "ACTIVE" and not asked:
                await self._act(departure.server, {"os-stop": None})
                asked = True
            if self._clock() > until:
                raise HandoffRefused(f"the server did not stop within {STOP_S:.0f} s")
            await self._sleep(LOOK_S)

    async def restart(self, departure: Departure) -> None:
        """Unlock a server, and start it if it ran before.

        Raises:
            Unreachable: Nova does not answer, or has not ended another task of the server within `END_S`.
        """
        until = self._clock() + END_S
        while (shown := await self._shown(departure.server, await self._sites.own_token("compute"))) is not None:
            if shown["OS-EXT-STS:task_state"] is None:
                if departure.active and shown["status"] == "SHUTOFF":
                    await self._act(departure.server, {"os-start": None})
                await self._act(departure.server, {"unlock": None})
                return
            await self._pause(until, f"the task of server {departure.server}, {shown['OS-EXT-STS:task_state']}, has not ended")

    async def exists(self, departure: Departure) -> bool:
        """Return whether this site has the server.

        Raises:
            Unreachable: Nova does not answer.
        """
        return await self._shown(departure.server, await self._sites.own_token("compute")) is not None

    async def delete_departed(self, departure: Departure) -> None:
        """Delete a server that runs at its new site, and return when it is gone.

        Raises:
            Unreachable: Nova does not answer.
        """
        await self._delete(departure.server)

    # At the destination

    async def check(self, wish: Mapping[str, Any], project: str, token: str) -> None:
        """Check that a server can be created here, as far as this can be known before.

        Raises:
            HandoffRefused: it can't.
            Unreachable: a service does not answer.
        """
        here = self._sites.here
        flavor = await self._get("compute", f"/v2.1/flavors/{segment(str(wish['flavor']))}", token)
        if not flavor:
            raise HandoffRefused(f"{here} has no flavor {wish['flavor_name']}")
        most_gib = int(flavor["flavor"].get("disk", 0))
        if most_gib and int(wish["disk_bytes"]) > most_gib << 30:  # the guest's QEMU can write the size in the disk's header
            raise HandoffRefused(f"the server's disk is larger than the {most_gib} GiB of the flavor {flavor['flavor']['name']} at {here}")
        limits = (await self._get("compute", "/v2.1/limits", token)).get("limits", {}).get("absolute", {})
        for resource, needed in (("instances", 1), ("cores", flavor["flavor"]["vcpus"]), ("ram", flavor["flavor"]["ram"])):
            most, used = limits.get(f"maxTotal{_QUOTAS[resource]}", -1), limits.get(f"total{_QUOTAS[resource].replace('Size', '')}Used", 0)
            if 0 <= most < used + needed:
                raise HandoffRefused(f"the quota of {resource} of project {project} at {here} is exceeded: {used} of {most} are used")

    async def create(self, arrival: Arrival, token: str) -> None:
        """Ask Nova for a server with the id that it had, with the user's token.

        Nova creates a server in the project of the token. So the token's project is checked again here, because the token of a commit may
        differ from the one that was checked when the hand-off began.

        Raises:
            HandoffRefused: the token is not one of the server's project, or Nova refuses.
            Unreachable: Nova or Keystone does not answer.
        """
        if await project_of(self._sites, ServiceClient(self._sites, token, request_id(None))) != arrival.project:
            raise HandoffRefused("the token is one of another project than the server", 403)
        body = _creation(arrival, self._sites.here)
        headers = CIMultiDict({"X-Auth-Token": token, "OpenStack-API-Version": f"compute {VERSION}", GIVEN_ID: "1"})
        call = Call("POST", "compute", "/v2.1/servers", "", headers, None, request_id(None)).with_(json=body)
        answer = await self._local.answer(call)
        reply = answer if isinstance(answer, Reply) else await answer.read()
        if not reply.ok:
            raise HandoffRefused(f"{self._sites.here} can't create the server: {error_text(reply)}", reply.status)

    async def look(self, arrival: Arrival) -> tuple[Look, dict[str, Any]]:
        """Return the state of a new server, and its addresses or the reason of its fault.

        Raises:
            Unreachable: Nova does not answer.
        """
        shown = await self._shown(arrival.server, await self._sites.own_token("compute"))
        if shown is None or str(shown["tenant_id"]) != arrival.project:
            return Look.MISSING, {}
        started = shown.get("OS-SRV-USG:launched_at") is not None
        if shown["status"] == "ERROR" and not started:
            return Look.ERROR, {"reason": str((shown.get("fault") or {}).get("message", ""))}
        if shown["status"] == "BUILD" or not started:
            return Look.BUILDING, {}
        each = [{"address": one["addr"], "mac": one["OS-EXT-IPS-MAC:mac_addr"]} for two in shown["addresses"].values() for one in two]
        return Look.RUNS, {"addresses": each}

    async def delete(self, arrival: Arrival) -> None:
        """Delete a server that can't start, and return when it is gone.

        Raises:
            Unreachable: Nova does not answer.
        """
        await self._delete(arrival.server)

    async def finish(self, arrival: Arrival) -> None:
        """Give a server its tags, and stop it if it was stopped at the source.

        Raises:
            Unreachable: Nova does not answer.
        """
        if tags := arrival.wish.get("tags"):
            path, token = f"/v2.1/servers/{segment(arrival.server)}/tags", await self._sites.own_token("compute")
            await self._send("PUT", "compute", path, token, {"tags": tags})
        if not arrival.wish.get("active", True):
            await self._act(arrival.server, {"os-stop": None})

    # Requests

    async def _shown(self, server: str, token: str) -> dict[str, Any] | None:
        found = await self._get("compute", f"/v2.1/servers/{segment(server)}", token)
        shown: dict[str, Any] | None = found.get("server")
        return shown

    async def _get(self, service: str, target: str, token: str) -> dict[str, Any]:
        """Return the body of an answer; empty for a resource that the caller does not see.

        Raises:
            Unreachable: the service does not answer, or fails.
        """
        reply = await self._send("GET", service, target, token)
        if reply.status in {*GONE, 403}:
            return {}
        if not reply.ok:
            raise Unreachable(self._sites.here, f"its {service} service answers {reply.status}: {error_text(reply)}")
        body: dict[str, Any] = reply.json()
        return body

    async def _act(self, server: str, action: Mapping[str, Any]) -> None:
        """Have Nova change a server; an action that the server's state makes unnecessary, or a server that is gone, is no error.

        Raises:
            Unreachable: Nova does not answer, or fails.
        """
        token = await self._sites.own_token("compute")
        reply = await self._send("POST", "compute", f"/v2.1/servers/{segment(server)}/action", token, dict(action))
        if not reply.ok and reply.status not in {*GONE, 409}:
            raise Unreachable(self._sites.here, f"Nova answers {reply.status}: {error_text(reply)}")

    async def _pause(self, until: float, late: str) -> None:
        """Wait until the next look at a server.

        Args:
            until: the monotonic time, in seconds, after which no further wait is allowed.
            late: the beginning of the error's message.

        Raises:
            Unreachable: the time `until` has passed.
        """
        if self._clock() > until:
            raise Unreachable(self._sites.here, f"{late} within {END_S:.0f} s")
        await self._sleep(LOOK_S)

    async def _delete(self, server: str) -> None:
        token, until = await self._sites.own_token("compute"), self._clock() + END_S
        while True:
            reply = await self._send("DELETE", "compute", f"/v2.1/servers/{segment(server)}", token)
            if reply.status not in {*GONE, 409} and not reply.ok:
                raise Unreachable(self._sites.here, f"Nova answers {reply.status}: {error_text(reply)}")
            if await self._shown(server, token) is None:
                return
            await self._pause(until, f"Nova has not deleted server {server}")

    async def _send(self, method: str, service: str, target: str, token: str, body: Any = None) -> Reply:
        client = ServiceClient(self._sites, token, request_id(None))
        call = client.call(method, service, target, token, body)
        if service == "compute":
            call.headers["OpenStack-API-Version"] = f"compute {LOCK_VERSION if body is not None and 'lock' in body else VERSION}"
        return await self._sites.send(self._sites.here, call, _ANSWER_S)


def _check_state(shown: Mapping[str, Any]) -> None:
    """Refuse a server that can't be handed off as it is.

    Raises:
        HandoffRefused: always for such a server.
    """
    status, busy = shown["status"], shown.get("OS-EXT-STS:task_state")
    if status not in {"ACTIVE", "SHUTOFF"} or busy is not None:
        raise HandoffRefused(f"the server's status is {status}{f' ({busy})' if busy else ''}: expected ACTIVE or SHUTOFF, and no task")
    if shown.get("locked"):
        raise HandoffRefused("the server is locked: unlock it first")
    if not shown.get("image"):
        raise HandoffRefused("the server has no image: expected one that was started from an image")
    if shown.get("os-extended-volumes:volumes_attached"):
        raise HandoffRefused("the server has volumes, which are not handed off: detach them first")


def _check_same(shown: Mapping[str, Any], wish: Mapping[str, Any]) -> None:
    """Refuse a server that its owner has changed since the hand-off began: from its lock on, the owner can't.

    Raises:
        HandoffRefused: it has volumes now, which would be lost, or another flavor or image than the destination has checked.
    """
    if shown.get("os-extended-volumes:volumes_attached"):
        raise HandoffRefused("a volume was attached meanwhile, and volumes are not handed off: detach it first")
    if (shown["flavor"]["id"], (shown.get("image") or {}).get("id")) != (wish["flavor"], wish["image"]):
        raise HandoffRefused("the server was resized or rebuilt meanwhile: begin the hand-off again")


def _creation(arrival: Arrival, here: str) -> dict[str, Any]:
    """Return the body of the request that creates a server at this machine, where its disk is: compute sites have other zones."""
    wish = arrival.wish
    fields: dict[str, Any] = {
        "name": wish["name"],
        "availability_zone": here,
        "imageRef": wish["image"],
        "flavorRef": wish["flavor"],
        "metadata": wish.get("metadata") or {},
        "config_drive": bool(wish.get("config_drive")),
        "networks": [{"uuid": each["network"]} for each in wish["networks"]] or "none",
    }
    for name in ("description", "key_name", "user_data"):
        if wish.get(name):
            fields[name] = wish[name]
    if wish["groups"]:
        fields["security_groups"] = [{"name": group} for group in wish["groups"]]
    hints = {HANDOFF_HINT: arrival.id, HANDOFF_SERVER_HINT: arrival.server}
    if wish["networks"]:
        hints[HANDOFF_MACS_HINT] = ",".join(f"{each['network']}={each['mac']}" for each in wish["networks"])
    return {"server": fields, "os:scheduler_hints": hints}


def disk_of(instances: Path, server: str) -> Path:
    """Return the file of a server's disk at this machine."""
    return instances / server / "disk"
