"""Finds the address of the console that a token stands for, and checks that the token's server still has the address.

Ports are reused, and the next server on a port may belong to another project. So Nova's own proxies (nova/console/websocketproxy.py) have
the compute manager check that the server still listens at the address of its token (`validate_console_port`). The API has no such call, but
its answer to a request for a new console has the current address, which is compared. A server that does not run is refused: its definition
may still name a port that another server has now.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from multidict import CIMultiDict

from atoll.gateway.console.guest_connection import ConsoleEndpoint
from atoll.gateway.console.url import KINDS, new_token
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

MICROVERSION = "compute 2.31"
"""The first microversion in which Nova shows tokens of all types. Later ones add nothing that is needed (2.99: TLS ports of SPICE)."""

_RUNNING = frozenset((1, 3))
"""Power states in which QEMU listens: RUNNING and PAUSED of `nova.compute.power_state`."""

_EXPIRED = "the console's URL has expired or is not valid: request a new one with `openstack console url show`"


class Finder:
    """Finds the consoles of this site's servers.

    Args:
        sites: sends requests to this site's Nova.
        address: this site's address.
    """

    def __init__(self, sites: Sites, address: str) -> None:
        self._sites = sites
        self._address = address

    async def find(self, token: str, kind: str, request_id: str) -> ConsoleEndpoint:
        """Return the address of the console that a token stands for.

        Args:
            token: the client's console token.
            kind: the kind of console that the client expects, one of `KINDS`.
            request_id: the request id for Nova's log.

        Raises:
            Refused: the token is not valid, or its address is no longer the server's.
            Unreachable: Nova does not answer, or answers with an error.
        """
        where = await self._show(token, request_id)
        if where is None:
            raise Refused(403, _EXPIRED)
        now = await self._now(where.server, kind, request_id)
        # The last check, so that as little time as possible passes before the connection.
        await self._check_server(where.server, request_id)
        if now != where:
            raise Refused(403, f"the address of the server's {kind} console has changed: request a new URL")
        self._check_address(where)
        return where

    async def _show(self, token: str, request_id: str) -> ConsoleEndpoint | None:
        reply = await self._ask(
            Call("GET", "compute", f"/v2.1/os-console-auth-tokens/{segment(token)}", "", CIMultiDict(), None, request_id)
        )
        if reply.status == 404:
            return None
        console = self._body(reply)["console"]
        return ConsoleEndpoint(str(console["host"]), int(console["port"]), console["internal_access_path"] or "", console["instance_uuid"])

    async def _now(self, server: str, kind: str, request_id: str) -> ConsoleEndpoint | None:
        protocol, type_ = KINDS[kind]
        make = Call("POST", "compute", f"/v2.1/servers/{segment(server)}/remote-consoles", "", CIMultiDict(), None, request_id)
        reply = await self._ask(make.with_(json={"remote_console": {"protocol": protocol, "type": type_}}))
        if reply.status >= 500:
            raise self._failed(reply)
        token = new_token(reply) if reply.ok else None
        return await self._show(token, request_id) if token else None

    async def _check_server(self, server: str, request_id: str) -> None:
        reply = await self._ask(Call("GET", "compute", f"/v2.1/servers/{segment(server)}", "", CIMultiDict(), None, request_id))
        if reply.status == 404:
            raise Refused(403, _EXPIRED)
        found = self._body(reply)["server"]
        host, task, here = found["OS-EXT-SRV-ATTR:host"], found["OS-EXT-STS:task_state"], self._sites.here
        if host != here:
            # The console listens at that host's loopback address; at this host's, the port belongs to another server.
            raise Refused(403, f"the server runs at {host}, whose consoles can't be reached from {here}")
        if found["OS-EXT-STS:power_state"] not in _RUNNING:
            raise Refused(409, "the server is not running: start it first")
        if task is not None:
            raise Refused(409, f"the server is busy ({task}): try again in a moment")

    def _check_address(self, where: ConsoleEndpoint) -> None:
        ours = where.host == self._address
        with suppress(ValueError):
            ours = ours or ip_address(where.host).is_loopback
        if not ours or not 0 < where.port < 65536:
            LOG.warning(
                "the console of server %s is at %s port %s: expected address %s",
                where.server,
                where.host,
                where.port,
                self._address,
            )
            raise Refused(403, f"the address of the server's console is not one of site {self._sites.here}")

    async def _ask(self, call: Call) -> Reply:
        headers = {
            "X-Auth-Token": await self._sites.own_token("compute"),
            "OpenStack-API-Version": MICROVERSION,
            "Accept": "application/json",
        }
        return await self._sites.send(self._sites.here, call.with_(headers=CIMultiDict({**call.headers, **headers})))

    def _body(self, reply: Reply) -> Any:
        if reply.status != 200:
            raise self._failed(reply)
        return reply.json()

    def _failed(self, reply: Reply) -> Unreachable:
        return Unreachable(self._sites.here, f"its own compute service answers HTTP {reply.status}")
