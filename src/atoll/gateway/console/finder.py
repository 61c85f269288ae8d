"""Asks Nova where a console's token leads, and whether it still does.

Nova's own proxies (nova/console/websocketproxy.py) have the compute manager check that the server still listens where its token says
(`validate_console_port`): ports are used again, and the next server to have one may be another project's. The API has no such call. But who
asks it for a new console is told where the server listens now; so that is what is compared. And a server that does not run listens nowhere,
although its definition still names the port, which may be another's by now.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from multidict import CIMultiDict

from atoll.gateway.console.line import Where
from atoll.gateway.console.url import KINDS, new_token
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

MICROVERSION = "compute 2.31"
"""Since then Nova shows tokens of all types. Newer ones have nothing that is needed here (2.99: TLS ports, of SPICE alone)."""

_RUNNING = frozenset((1, 3))
"""nova.compute.power_state: RUNNING, PAUSED: QEMU is there, and listens."""

_EXPIRED = "the console's URL has expired, or never was one: ask for a new one (`openstack console url show`)"


class Finder:
    """Finds the consoles of this site's servers.

    Args:
        sites: to ask.
        address: of this site.
    """

    def __init__(self, sites: Sites, address: str) -> None:
        self._sites = sites
        self._address = address

    async def find(self, token: str, kind: str, request_id: str) -> Where:
        """Where a token leads.

        Args:
            token: the client's.
            kind: of `KINDS`: what the client takes it for.
            request_id: by which Nova's log tells that it is this.

        Raises:
            Refused: nowhere, or not where it may lead.
            Unreachable: Nova does not answer as it should.
        """
        where = await self._show(token, request_id)
        if where is None:
            raise Refused(403, _EXPIRED)
        now = await self._now(where.server, kind, request_id)
        # Last: from here on there is only the time that it takes to connect.
        await self._check_server(where.server, request_id)
        if now != where:
            raise Refused(403, f"the server's {kind} console is no more where this URL leads: ask for a new one")
        self._check_address(where)
        return where

    async def _show(self, token: str, request_id: str) -> Where | None:
        reply = await self._ask(
            Call("GET", "compute", f"/v2.1/os-console-auth-tokens/{segment(token)}", "", CIMultiDict(), None, request_id)
        )
        if reply.status == 404:
            return None
        console = self._body(reply)["console"]
        return Where(str(console["host"]), int(console["port"]), console["internal_access_path"] or "", console["instance_uuid"])

    async def _now(self, server: str, kind: str, request_id: str) -> Where | None:
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
            # Its loopback address is not ours: what listens there at ours is another server.
            raise Refused(403, f"the server runs at {host}, whose consoles can't be reached from {here}")
        if found["OS-EXT-STS:power_state"] not in _RUNNING:
            raise Refused(409, "the server does not run")
        if task is not None:
            raise Refused(409, f"something is being done to the server ({task}): try again in a moment")

    def _check_address(self, where: Where) -> None:
        ours = where.host == self._address
        with suppress(ValueError):
            ours = ours or ip_address(where.host).is_loopback
        if not ours or not 0 < where.port < 65536:
            LOG.warning("the console of server %s is at %s port %s: expected %s", where.server, where.host, where.port, self._address)
            raise Refused(403, f"the server's console is at no address of site {self._sites.here}")

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
