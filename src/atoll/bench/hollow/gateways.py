"""Real gateways for a sample of the members, with stubs of Keystone and Nova behind them, and the requests that they answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.bench.hollow.links import Network
from atoll.bench.hollow.members import CLOUD, Cloud, Ports
from atoll.bench.workspace import HOST
from atoll.files import make_directory
from atoll.gateway.app import GatewayApp
from atoll.gateway.options import Options

_SERVICES = ("identity", "compute")
_LOCAL = ("/identity/v3", "/compute/v2.1/", "/compute/v2.1/flavors")
"""Requests that a gateway answers from its own site's services."""
_LIST = "/compute/v2.1/servers"
_TIMEOUT_S = 30.0
_ASK_S = 0.1
"""Seconds between two requests; a gateway accepts 20 a second from an address without a token that a site has signed."""
_SCOPE = "X-Scope"


class Stubs:
    """Stand-ins of Keystone and Nova of all sites with a gateway, on one port: discovery, the gateway's own tokens, short lists."""

    def __init__(self) -> None:
        self.port = 0
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))

    async def start(self) -> None:
        """Listen on a free port."""
        await self._runner.setup()
        listener = listening()
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Stop the server of the stubs."""
        await self._runner.cleanup()

    @staticmethod
    async def _handle(request: web.BaseRequest) -> web.Response:
        _empty, site, service, *rest = request.path.split("/")
        if service == "identity" and request.method == "POST" and rest == ["v3", "auth", "tokens"]:
            token = {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}
            return web.json_response({"token": token}, status=201, headers={"X-Subject-Token": f"token of {site}"})
        if service == "identity":
            return web.json_response({"version": {"id": "v3.14", "status": "stable", "links": []}})
        if rest[1:2] == ["servers"] and len(rest) <= 3:
            created = "2026-01-01T00:00:00Z"
            server = {"id": f"server-of-{site}", "name": site, "created": created, "status": "ACTIVE", "tenant_id": "p", "links": []}
            return web.json_response({"servers": [server]}, headers={"OpenStack-API-Version": "compute 2.1"})
        if rest[1:2] == ["flavors"]:
            return web.json_response({"flavors": []})
        return web.json_response({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.96", "links": []}})


def listening() -> socket.socket:
    """Return a socket that listens on a free port."""
    listener = socket.socket()
    listener.bind((HOST, 0))
    listener.listen(128)
    return listener


@dataclass
class Tally:
    """The answers to requests.

    Attributes:
        statuses: the number of answers by HTTP status; 0 for requests without an answer.
        listed: the lists that had the servers of all sites of the sample, and the other lists.
        seconds: the durations of all requests.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    listed: Counter[bool] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """The number of answers with a status of 500 or more, and of requests without an answer."""
        return sum(count for status, count in self.statuses.items() if status == 0 or status >= 500)


class Gateways:
    """The gateways of a sample of the members.

    Args:
        names: the members of the sample.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.apps: dict[str, GatewayApp] = {}
        self._stubs = Stubs()
        self._sockets = {name: (listening(), listening()) for name in names}

    def ports(self) -> dict[str, Ports]:
        """Return the ports of each member of the sample."""
        return {name: Ports(public.getsockname()[1], peer.getsockname()[1]) for name, (public, peer) in self._sockets.items()}

    def create_keys(self, root: Path) -> None:
        """Write the key of tokens that Keystone would write, before the members' cards are made."""
        for name in self.names:
            make_directory(root / name / "keys")
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
            pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            (root / name / "keys" / "public.pem").write_bytes(pem)

    async def construct(self, cloud: Cloud, network: Network) -> None:
        """Start the stubs, and construct the gateways with their mesh nodes."""
        # There is no Keystone whose tables could be replicated; its absence would be logged again and again.
        logging.getLogger("atoll.identity.synchroniser").setLevel(logging.CRITICAL + 1)
        await self._stubs.start()
        for name in self.names:
            make_directory(cloud.home(name) / "run")
            app = GatewayApp(self._options(cloud, name), network.transport)
            app.mesh.document.stream_set.share(cloud.document.stream_set)
            self.apps[name] = app

    async def start(self) -> None:
        """Start the gateways, their mesh nodes included."""
        for name, app in self.apps.items():
            await app.start(*self._sockets[name])

    async def stop(self) -> None:
        """Stop the gateways and the stubs."""
        await asyncio.gather(*(app.stop() for app in self.apps.values()))
        await self._stubs.stop()
        for pair in self._sockets.values():
            for each in pair:
                each.close()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Tally]:
        """Send requests to the gateways inside the context, and yield the tally of the answers."""
        tally = Tally()
        requests = asyncio.create_task(self._ask(tally)) if self.names else None
        try:
            yield tally
        finally:
            if requests is not None:
                requests.cancel()
                await asyncio.gather(requests, return_exceptions=True)

    async def _ask(self, tally: Tally) -> None:
        """Send requests to all gateways in turn, until cancelled: local ones, and a list of servers of all sites of the sample."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        ports = self.ports()
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as requests:
            while True:
                for name in self.names:
                    for path in (*_LOCAL, _LIST):
                        requests.create_task(self._request(session, f"http://{HOST}:{ports[name].public}{path}", tally))
                        await asyncio.sleep(_ASK_S)

    async def _request(self, session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
        headers = {_SCOPE: f"{{compute: {' & '.join(self.names)}}}"} if url.endswith(_LIST) else {}
        begun = time.monotonic()
        try:
            async with session.get(url, headers={**headers, "X-Auth-Token": "token"}) as response:
                body = await response.json(content_type=None)
                tally.statuses[response.status] += 1
                if headers and response.status == 200:
                    tally.listed[len(body["servers"]) == len(self.names)] += 1
        except (aiohttp.ClientError, TimeoutError, OSError):
            tally.statuses[0] += 1
        tally.seconds.append(time.monotonic() - begun)

    def _options(self, cloud: Cloud, name: str) -> Options:
        card, home = cloud.cards[name], cloud.home(name)
        return Options(
            cloud=CLOUD,
            site=name,
            region="hollow",
            host=card.host,
            public_port=card.public_port,
            peer_port=card.peer_port,
            mesh_port=card.mesh_port,
            services={service: f"http://{HOST}:{self._stubs.port}/{name}/{service}" for service in _SERVICES},
            data=home / "gateway",
            sockets=home / "run",
            tls=home / "tls",
            members_file=cloud.members_file,
            identity_database=f"sqlite:///{home / 'keystone.db'}",
            token_keys=home / "keys",
            local_users=(),
            local_endpoints=(),
            password=CLOUD,
            durable=False,
        )
