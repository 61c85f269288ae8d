"""Test sites with real gateways and certificates, and small doubles of OpenStack's services."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from no_freshness import NoFreshness
from no_parts import NoBringer, collaborators

from atoll.gateway.console import Consoles
from atoll.gateway.door.extensions import Extensions
from atoll.gateway.door.limits import Limits
from atoll.gateway.door.server import GatewayServer
from atoll.gateway.edge import Zones, edge_apis
from atoll.gateway.gateway import Gateway
from atoll.gateway.handoffs import Handoffs
from atoll.gateway.options import Options
from atoll.gateway.overlays import LaunchImages, OverlayBases
from atoll.gateway.resolve import visibility
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_SERVICES, gateway_role
from atoll.mesh.certificates import authority


@dataclass(frozen=True)
class Member:
    name: str
    host: str
    peer_port: int
    fingerprint: str
    state: str = "alive"
    public_port: int = 0
    certificate: str = ""


@dataclass
class Mesh:
    """A double of the mesh: the members as all sites see them, shared by all of them."""

    table: dict[str, Member]
    here: str
    reports: list[tuple[str, bool]] = field(default_factory=list)
    rtts_ms: dict[frozenset[str], float | None] = field(default_factory=dict)

    def members(self) -> dict[str, Member]:
        return self.table

    def reachable(self, _service: str = "") -> list[str]:
        return [name for name, member in self.table.items() if name != self.here and member.state in {"alive", "suspect"}]

    def rtt_ms(self, site: str, other: str | None = None) -> float | None:
        return self.rtts_ms.get(frozenset((site, other or self.here)), 1.0)

    def report(self, site: str, ok: bool) -> None:
        self.reports.append((site, ok))

    def site_of_fingerprint(self, fingerprint: str) -> str | None:
        return next(
            (name for name, member in self.table.items() if member.fingerprint == fingerprint and member.state not in {"left", "revoked"}),
            None,
        )


def own_account(body: bytes) -> str:
    """Return the gateway's own account that signs in with a body; empty if a client signs in."""
    try:
        name = json.loads(body)["auth"]["identity"]["password"]["user"]["name"]
    except (ValueError, KeyError, TypeError):  # the body is a client's, which may be anything
        return ""
    return name if name in map(gateway_role, GATEWAY_SERVICES) else ""


def own_token(account: str) -> str:
    """Return the token of one of the gateway's own accounts."""
    return f"token of {account}"


def patch(image: dict[str, Any], changes: list[dict[str, str]]) -> None:
    """Change an image as Glance does."""
    for change in changes:
        name = change["path"].removeprefix("/")
        if change["op"] == "add":
            image[name] = change["value"]
        else:
            del image[name]


_STATUSES = {"os-start": "ACTIVE", "os-stop": "SHUTOFF"}
"""Status of a server after an action; other actions change nothing."""


class Services:
    """A double of Nova, Glance, Neutron and Keystone of one site, with the features that the tests need."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.servers: dict[str, dict] = {}
        self.images: dict[str, dict] = {}
        self.network: dict[str, dict[str, dict]] = {"networks": {}, "subnets": {}, "ports": {}, "security_groups": {}}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.data: dict[str, str] = {}
        self.people: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Project and roles by token."""
        self.free_ram_mb = 1024
        self.flavors: dict[str, dict] = {}
        self.refuse: Callable[[web.Request], web.Response | None] = lambda _request: None

    def add_server(self, name: str, created: str, project: str = "p1") -> str:
        key = str(uuid.uuid4())
        owner = {"tenant_id": project, "user_id": f"of {project}"}
        self.servers[key] = {"id": key, "name": name, "created": created, "status": "ACTIVE", "links": []} | owner
        return key

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        self.headers.append(dict(request.headers))
        if (refused := self.refuse(request)) is not None:
            return refused
        _empty, service, _version, *rest = request.path.split("/")
        if service == "compute":
            return await self.compute(request, rest)
        if service == "image":
            return await self.image(request, rest)
        if service == "network":
            return await self.neutron(request, rest)
        return await self.identity(request)

    async def identity(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        if request.method == "POST" and (account := own_account(body)):
            expiry = {"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}}
            return web.json_response(expiry, status=201, headers={"X-Subject-Token": own_token(account)})
        token = request.headers.get("X-Auth-Token", "")
        subject = request.headers.get("X-Subject-Token", "")
        if request.method == "GET" and subject in self.people and token in {subject, own_token(gateway_role("image"))}:
            project, roles = self.people[subject]
            told = {"user": {"id": "u"}, "project": {"id": project}, "roles": [{"name": name} for name in roles]}
            return web.json_response({"token": told})
        if "X-Subject-Token" in request.headers and request.headers.get("X-Auth-Token") != own_token(gateway_role("image")):
            return web.json_response({"error": {"code": 403, "message": "others' tokens are not shown"}}, status=403)
        url = "http://10.0.0.1:8080/compute/v2.1"
        return web.json_response(
            {"token": {"catalog": [{"endpoints": [{"url": url}]}]}, "site": self.site}, headers={"X-Subject-Token": "t"}
        )

    async def compute(self, request: web.Request, rest: list[str]) -> web.Response:
        if rest == ["os-availability-zone"]:
            return web.json_response({"availabilityZoneInfo": [{"zoneName": self.site, "zoneState": {"available": True}, "hosts": None}]})
        if rest == ["os-hypervisors", "statistics"] and request.headers.get("X-Auth-Token") == own_token(gateway_role("compute")):
            return web.json_response({"hypervisor_statistics": {"free_ram_mb": self.free_ram_mb}})
        if rest == ["flavors", "detail"]:
            return web.json_response({"flavors": list(self.flavors.values())})
        if rest[0] == "flavors" and rest[1] in self.flavors:
            return web.json_response({"flavor": self.flavors[rest[1]]})
        if rest[0] != "servers":
            return web.json_response({"itemNotFound": {"code": 404, "message": "no such path"}}, status=404)
        if request.method == "POST" and len(rest) == 1:
            wanted = (await request.json())["server"]
            project, _roles = self.people.get(request.headers.get("X-Auth-Token", ""), ("p1", ()))
            key = self.add_server(wanted["name"], "2026-01-01T00:00:00Z", project)
            self.servers[key] |= {name: wanted[name] for name in ("metadata", "flavorRef", "networks") if name in wanted}
            self.servers[key]["OS-EXT-AZ:availability_zone"] = self.site
            return web.json_response({"server": {"id": key}}, status=202)
        if rest[1:] in ([], ["detail"]):
            return self.server_list(request, detail=bool(rest[1:]))
        if rest[1] not in self.servers:
            return web.json_response({"itemNotFound": {"code": 404, "message": f"Instance {rest[1]} could not be found."}}, status=404)
        return await self.server(request, rest[1], rest[2:])

    async def server(self, request: web.Request, key: str, below: list[str]) -> web.Response:
        if below[:1] == ["metadata"]:
            return await self.metadata(request, self.servers[key].setdefault("metadata", {}), below[1:])
        status = next((_STATUSES[action] for action in await request.json() if action in _STATUSES), "") if below == ["action"] else ""
        if status:
            self.servers[key]["status"] = status
            return web.Response(status=202)
        if request.method == "DELETE":
            del self.servers[key]
            return web.Response(status=204)
        return web.json_response({"server": self.servers[key] | {"where": self.site}})

    async def metadata(self, request: web.Request, held: dict[str, str], key: list[str]) -> web.Response:
        _project, roles = self.people.get(request.headers.get("X-Auth-Token", ""), ("p1", ("member",)))
        if "member" not in roles:
            return web.json_response({"forbidden": {"code": 403, "message": "Policy doesn't allow this"}}, status=403)
        if request.method == "DELETE" and key:
            return web.Response(status=204 if held.pop(key[0], None) is not None else 404)
        wanted = (await request.json())["metadata"]
        if any(len(value) > 255 for value in wanted.values()):
            return web.json_response({"badRequest": {"code": 400, "message": "is too long"}}, status=400)
        held.update(wanted)
        return web.json_response({"metadata": held})

    def server_list(self, request: web.Request, *, detail: bool) -> web.Response:
        items = sorted(self.servers.values(), key=lambda item: item["id"])
        key = {"created_at": "created", "display_name": "name"}[request.query.get("sort_key", "created_at")]
        items.sort(key=lambda item: item[key], reverse=request.query.get("sort_dir", "desc") == "desc")
        if (person := self.people.get(request.headers.get("X-Auth-Token", ""))) is not None:
            items = [item for item in items if item["tenant_id"] == person[0] or "all_tenants" in request.query]
        if "project_id" in request.query:
            items = [item for item in items if item["tenant_id"] == request.query["project_id"]]
        if "name" in request.query:
            items = [item for item in items if request.query["name"] in item["name"]]
        if "marker" in request.query:
            ids = [item["id"] for item in items]
            if request.query["marker"] not in ids:
                return web.json_response({"badRequest": {"code": 400, "message": "marker not found"}}, status=400)
            items = items[ids.index(request.query["marker"]) + 1 :]
        limit = int(request.query.get("limit", 1000))
        items = items[:limit]
        body: dict = {"servers": [item if detail else {name: item[name] for name in ("id", "name", "links")} for item in items]}
        if limit and len(items) == limit:
            body["servers_links"] = [{"rel": "next", "href": "x"}]
        return web.json_response(body, headers={"OpenStack-API-Version": "compute 2.1"})

    async def image(self, request: web.Request, rest: list[str]) -> web.StreamResponse:
        if rest[2:] == ["file"] and request.method == "PUT":
            digest, size = hashlib.sha256(), 0
            async for piece in request.content.iter_any():
                digest.update(piece)
                size += len(piece)
            self.data[rest[1]] = f"{size}:{digest.hexdigest()}"
            return web.Response(status=204)
        if rest[2:] == ["file"]:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(64):
                await response.write(b"x" * (1 << 20))
            return response
        if len(rest) == 1 and request.method == "GET":
            items = sorted(self.images.values(), key=lambda item: (item["created_at"], item["id"]), reverse=True)
            limit = int(request.query.get("limit", 25))
            if "marker" in request.query:
                ids = [item["id"] for item in items]
                items = items[ids.index(request.query["marker"]) + 1 :]
            more = {"next": "x"} if items and len(items[:limit]) == limit else {}
            return web.json_response({"images": items[:limit], "first": "/v2/images", "schema": "/v2/schemas/images", **more})
        if len(rest) == 1:
            key = str(uuid.uuid4())
            self.images[key] = {"id": key, "name": "new", "created_at": "2026-01-01"}
            return web.json_response(self.images[key], status=201)
        if rest[1] in self.images:
            if request.method == "PATCH":
                patch(self.images[rest[1]], await request.json())
            return web.json_response(self.images[rest[1]])
        return web.Response(status=404, text="<html>no image</html>")

    async def neutron(self, request: web.Request, rest: list[str]) -> web.Response:
        held = self.network[rest[0].replace("-", "_")]
        item = rest[0].replace("-", "_").removesuffix("s")
        if request.method == "POST":
            body = (await request.json())[item]
            if rest[0] == "ports" and body["network_id"] not in self.network["networks"]:
                return web.json_response({"NeutronError": {"type": "NetworkNotFound", "message": "no network", "detail": ""}}, status=404)
            body = {"id": str(uuid.uuid4())} | body
            held[body["id"]] = body
            return web.json_response({item: body}, status=201)
        if len(rest) == 1:
            items = [each for _, each in sorted(held.items())]
            if fields := request.query.getall("fields", []):
                items = [{name: each[name] for name in fields if name in each} for each in items]
            return web.json_response({rest[0].replace("-", "_"): items})
        if rest[1] not in held:
            return web.json_response({"NeutronError": {"type": "NotFound", "message": "no", "detail": ""}}, status=404)
        if request.method == "DELETE":
            del held[rest[1]]
            return web.Response(status=204)
        return web.json_response({item: held[rest[1]]})


class Site:
    """A site with a gateway and doubles of its services."""

    def __init__(self, name: str, directory: Path, table: dict[str, Member]) -> None:
        self.name = name
        self.services = Services(name)
        self.mesh = Mesh(table, name)
        self.directory = directory
        (directory / "gateway").mkdir(parents=True, exist_ok=True)
        self.limits = Limits()
        self.freshness: Any = NoFreshness()
        self.digest = ""
        self.now_s = 0.0
        self._sockets = [_listener() for _ in range(3)]
        self.service_port, self.public_port, self.peer_port = (each.getsockname()[1] for each in self._sockets)
        base = f"http://127.0.0.1:{self.service_port}"
        self.options = Options(
            cloud="test",
            site=name,
            region="r",
            host="127.0.0.1",
            public_port=self.public_port,
            peer_port=self.peer_port,
            mesh_port=0,
            services={each: f"{base}/{each}" for each in ("identity", "compute", "image", "network", "placement")},
            data=directory / "gateway",
            sockets=directory,
            tls=directory / "tls",
            members_file=directory / "members.json",
            identity_database=f"sqlite:///{directory / 'keystone.db'}",
            token_keys=directory,
            local_users=(),
            local_endpoints=(),
            password="secret",
        )

    async def start(self, parts: dict[str, Callable[[Site], Any]]) -> None:
        runner = web.ServerRunner(web.Server(self.services.handle, access_log=None, auto_decompress=False))
        await runner.setup()
        self._services_runner = runner
        await web.SockSite(runner, self._sockets[0]).start()
        self.sites = Sites(self.options, self.mesh, lambda: self.digest)
        await self.sites.start()
        self.parts = {name: make(self) for name, make in parts.items()}
        given = {name: (lambda *_given, part=part: part) if name == "replicas" else part for name, part in self.parts.items()}
        self.gateway = Gateway(self.sites, self.mesh, collaborators(**given))
        self.consoles = Consoles(self.sites, self.options.host, self.directory / "novnc")
        zones = Zones(self.options, self.sites, self.mesh, lambda: self.now_s)

        launches = LaunchImages(self.sites, self.options.launch_images)

        def extend(application: web.Application) -> None:
            visibility.attach(application, sites=self.sites)
            zones.attach(application)
            launches.attach(application)
            handoffs.attach(application)
            edge.attach(application)

        bases = OverlayBases(self.sites, self.parts.get("bringer") or NoBringer(), launches)
        edge = edge_apis(self.options, self.sites, zones, self.gateway.answer, launches.holding)
        handoffs = self.handoffs = Handoffs(
            self.options, self.sites, self.parts.get("bringer") or NoBringer(), self.gateway.local, self.mesh
        )
        handoffs.publish = edge.mobility.events.publish
        edge.device.move = handoffs.move
        self.edge = edge
        extensions = Extensions(self.consoles, edge, bases, handoffs, self.freshness, extend)
        self.server = GatewayServer(self.options, self.gateway, self.mesh, extensions, self.limits)
        await self.server.start(self._sockets[1], self._sockets[2])

    async def stop(self) -> None:
        await self.server.stop()
        await self.handoffs.stop()
        await self.edge.stop()
        self.edge.close()
        await self.sites.stop()
        await self._services_runner.cleanup()
        for each in self._sockets:
            each.close()


class Cloud:
    """Several sites that run while the context lasts."""

    def __init__(self, directory: Path, *names: str) -> None:
        self._table: dict[str, Member] = {}
        self._authority = authority(directory / "ca", "test")
        self._sites = {name: Site(name, directory / name, self._table) for name in names}
        for site in self._sites.values():
            self._authority.certify(site.options.tls, site.name, "127.0.0.1")
            pem = (site.options.tls / "cert.pem").read_text()
            fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
            self._table[site.name] = Member(
                site.name, "127.0.0.1", site.peer_port, fingerprint, public_port=site.public_port, certificate=pem
            )
        self.parts: dict[str, Callable[[Site], object]] = {}

    def __getitem__(self, name: str) -> Site:
        return self._sites[name]

    def set_state(self, name: str, state: str) -> None:
        self._table[name] = replace(self._table[name], state=state)

    async def __aenter__(self) -> Cloud:
        for site in self._sites.values():
            await site.start(self.parts)
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.session.close()
        for site in self._sites.values():
            await site.stop()

    async def ask(self, site: str, method: str, path: str, **more: object) -> tuple[int, dict, dict[str, str]]:
        """Send a request to a site's public port; return the status, the decoded body and the headers."""
        url = f"http://127.0.0.1:{self[site].public_port}{path}"
        async with self.session.request(method, url, **more) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else {"text": text}, dict(response.headers)


async def raw(port: int, data: bytes) -> bytes:
    """Return a server's answer to some bytes, until it closes the connection or is silent for 0.4 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    answer = b""
    try:
        async with asyncio.timeout(0.4):
            while piece := await reader.read(65536):
                answer += piece
    except TimeoutError:
        pass
    writer.close()
    return answer


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener
