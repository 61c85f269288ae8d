"""Test sites whose Nova has consoles, with guests at the other end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from gateway_cloud import Cloud, Services
from multidict import CIMultiDict

from atoll.gateway.console import WHY

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ISSUED = "2026-01-01T00:00:00Z"
EXPIRES = "2999-01-01T00:00:00Z"
MICROVERSION = "compute 2.31"


@dataclass
class Guest:
    """A running server with a console.

    Attributes:
        consoles: where the hypervisor listens now, by protocol: host, port, internal access path.
    """

    host: str
    consoles: dict[str, tuple[str, int, str | None]]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    power_state: int = 1
    task_state: str | None = None


class ConsoleServices(Services):
    """A double of Nova that answers as nova/api/openstack/compute/{console_auth_tokens,remote_consoles,servers}.py do."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.guests: dict[str, Guest] = {}
        self.tokens: dict[str, tuple[str, tuple[str, int, str | None], float]] = {}
        self.base = "10.9.9.9:8080"
        self.broken = 0

    def add_guest(self, **consoles: tuple[str, int, str | None]) -> Guest:
        guest = Guest(self.site, consoles)
        self.guests[guest.id] = guest
        return guest

    def token(self, guest: Guest, protocol: str, lifetime_s: float = 600) -> str:
        token = str(uuid.uuid4())
        self.tokens[token] = (guest.id, guest.consoles[protocol], time.time() + lifetime_s)
        return token

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/identity/v3/auth/tokens" and request.method == "POST":
            user = (await request.json())["auth"]["identity"]["password"]["user"]
            assert (user["name"], user["password"]) == ("gateway_compute", "secret")
            token = {"issued_at": ISSUED, "expires_at": EXPIRES}
            return web.json_response({"token": token}, status=201, headers={"X-Subject-Token": f"admin-of-{self.site}"})
        return await super().handle(request)

    async def compute(self, request: web.Request, rest: list[str]) -> web.Response:
        if self.broken:
            return web.json_response({"computeFault": {"code": self.broken, "message": "x"}}, status=self.broken)
        if rest[0] == "os-console-auth-tokens":
            return self.show_token(request, rest[1])
        if rest[0] == "servers" and len(rest) > 1 and rest[1] in self.guests:
            guest = self.guests[rest[1]]
            if rest[2:] in (["remote-consoles"], ["action"]):
                return self.create(guest, await request.json())
            if len(rest) == 2 and request.method == "GET":
                return self.show_server(request, guest)
        return await super().compute(request, rest)

    def show_token(self, request: web.Request, token: str) -> web.Response:
        if request.headers.get("X-Auth-Token") != f"admin-of-{self.site}":
            return web.json_response({"forbidden": {"code": 403, "message": "Policy doesn't allow"}}, status=403)
        if request.headers.get("OpenStack-API-Version") != MICROVERSION:
            return web.json_response({"badRequest": {"code": 400, "message": "x"}}, status=400)
        server, (host, port, path), until = self.tokens.get(token, ("", ("", 0, None), 0.0))
        if until < time.time():
            return web.json_response({"itemNotFound": {"code": 404, "message": "Token not found"}}, status=404)
        return web.json_response({"console": {"instance_uuid": server, "host": host, "port": port, "internal_access_path": path}})

    def show_server(self, request: web.Request, guest: Guest) -> web.Response:
        server: dict[str, object] = {"id": guest.id, "where": self.site, "status": "ACTIVE"}
        if request.headers.get("X-Auth-Token") == f"admin-of-{self.site}":
            server |= {"OS-EXT-SRV-ATTR:host": guest.host}
        server |= {"OS-EXT-STS:power_state": guest.power_state, "OS-EXT-STS:task_state": guest.task_state}
        return web.json_response({"server": server})

    def create(self, guest: Guest, body: dict) -> web.Response:
        if "remote_console" in body:
            protocol, kind, key = body["remote_console"]["protocol"], body["remote_console"]["type"], "remote_console"
        else:
            ((action, said),) = body.items()
            protocol, kind, key = action.removeprefix("os-get").removesuffix("Console").lower(), said["type"], "console"
        if protocol not in guest.consoles:
            message = f"Unavailable console type {protocol}."
            return web.json_response({"badRequest": {"code": 400, "message": message}}, status=400)
        url = self.url(protocol, self.token(guest, protocol))
        return web.json_response({key: {"type": kind, "url": url} | ({"protocol": protocol} if key == "remote_console" else {})})

    def url(self, protocol: str, token: str) -> str:
        """Return the URL of a console as `access_url` of nova/objects/console_auth_token.py does."""
        if protocol == "serial":
            return f"ws://{self.base}/console/{self.site}/serial?token={token}"
        return f"http://{self.base}/console/vnc/vnc_lite.html?" + urlencode({"path": f"console/{self.site}/vnc?token={token}"})


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Serve the guest's end of a console, and yield its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


class ConsoleCloud(Cloud):
    """Several test sites with consoles."""

    def __init__(self, directory: Path, *names: str) -> None:
        super().__init__(directory, *names)
        for name in names:
            self[name].services = ConsoleServices(name)

    def services(self, site: str) -> ConsoleServices:
        services = self[site].services
        assert isinstance(services, ConsoleServices)
        return services

    def guest(self, site: str, port: int, kind: str = "serial", path: str | None = None) -> tuple[Guest, str]:
        """Add a server with a console, and return a token for the console."""
        guest = self.services(site).add_guest(**{kind: ("127.0.0.1", port, path)})
        return guest, self.services(site).token(guest, kind)

    def url(self, gateway: str, site: str, token: str, kind: str = "serial") -> str:
        return f"http://127.0.0.1:{self[gateway].public_port}/console/{site}/{kind}?token={token}"

    async def refused(self, url: str, **more: Any) -> tuple[int, str]:
        """Return the status and the reason with which a WebSocket is refused."""
        try:
            socket = await self.session.ws_connect(url, **more)
        except aiohttp.WSServerHandshakeError as error:
            return error.status, (error.headers or CIMultiDict()).get(WHY, "")
        await socket.close()
        return 101, ""


def run(directory: Path, test: Callable[[ConsoleCloud], Awaitable[None]], *names: str) -> None:
    async def main() -> None:
        async with ConsoleCloud(directory, *(names or ("paris",))) as cloud:
            async with asyncio.timeout(60):
                await test(cloud)

    asyncio.run(main())
