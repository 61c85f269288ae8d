"""Sites with small Glances behind real servers, for the tests of what is brought from one to another."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.chunks import ChunkServer
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.groups import Groups
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import Call, Reply, Unreachable

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Streamed:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = CIMultiDict(response.headers)
        self._content = response.content

    def pieces(self) -> AsyncIterator[bytes]:
        return self._content.iter_any()


class Opened:
    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply

    async def read(self) -> Reply:
        return self._reply

    def close(self) -> None:
        """Discard the answer, which is whole."""


class Sites:
    """A double of `atoll.gateway.sites.Sites` over plain HTTP."""

    groups = Groups("", {})

    def __init__(self, here: str, urls: dict[str, str], session: aiohttp.ClientSession) -> None:
        self.here = here
        self.urls = urls
        self.session = session
        self.asked: list[tuple[str, str, str]] = []
        self.away: list[str] = []

    def others(self, _service: str = "") -> list[str]:
        return [site for site in self.urls if site != self.here] + self.away

    def reachable(self, _service: str = "") -> list[str]:
        return [site for site in self.urls if site != self.here]

    def rtt_ms(self, _site: str) -> float:
        return 1.0

    async def own_token(self, service: str) -> str:
        return "admin"

    async def open(self, site: str, call: Call) -> Opened:
        return Opened(await self.send(site, call))

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        async with asyncio.timeout(timeout_s), self.stream(site, call) as answer:
            body = b"".join([piece async for piece in answer.pieces()])
            return Reply(answer.status, answer.headers, body, site)

    @asynccontextmanager
    async def stream(self, site: str, call: Call) -> AsyncIterator[Streamed]:
        self.asked.append((site, call.method, f"/{call.service}{call.target}"))
        url = URL(f"{self.urls[site]}/{call.service}{call.target}", encoded=True)
        try:
            headers = {**call.headers, "X-Test-From": self.here}
            response = await self.session.request(call.method, url, headers=headers, data=call.body)
        except aiohttp.ClientError as error:
            raise Unreachable(site, str(error)) from error
        try:
            yield Streamed(response)
        finally:
            response.close()


class Site:
    """One site's server: a small Glance, the handlers for other gateways, and whatever else a test adds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.images: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.members: dict[str, set[str]] = {}
        self.fault: Fault | None = None
        self.ledger = Ledger()
        self.conflicts = Conflicts()
        self.bringer: Bringer | None = None
        self.application = web.Application(middlewares=[self._named, self._fail], client_max_size=1 << 30)
        self.application.router.add_get("/image/v2/images/{id}/members", self._members)
        self.application.router.add_get("/identity/v3/auth/tokens", self._token)
        self.application.router.add_get("/image/v2/images/{id}", self._show)
        self.application.router.add_post("/image/v2/images", self._create)
        self.application.router.add_get("/image/v2/images/{id}/file", self._download)
        self.application.router.add_put("/image/v2/images/{id}/file", self._upload)

    def add_image(self, data: bytes, **more: Any) -> str:
        image = str(uuid.uuid4())
        described = {
            "id": image,
            "name": "i",
            "status": "active",
            "size": len(data),
            "visibility": "private",
            "owner": "ours",
            "stores": "files",
        }
        hashed = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(data).hexdigest()}
        self.images[image] = {
            **described,
            **hashed,
            "disk_format": "raw",
            "checksum": "x",
            "kernel_id": None,
            "os_glance_task": "x",
            **more,
        }
        self.data[image] = data
        return image

    @web.middleware
    async def _named(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Name the sender of a request, as the peer port does by certificates."""
        request[PEER] = request.headers.get("X-Test-From", "")
        return await handler(request)

    async def _token(self, _request: web.Request) -> web.Response:
        return web.json_response({"token": {"project": {"id": "ours"}}})

    async def _members(self, request: web.Request) -> web.Response:
        members = [{"member_id": each} for each in sorted(self.members.get(request.match_info["id"], ()))]
        return web.json_response({"members": members})

    @web.middleware
    async def _fail(self, request: web.Request, handler: Any) -> web.StreamResponse:
        answer = await self.fault(request) if self.fault else None
        return answer or await handler(request)

    async def _show(self, request: web.Request) -> web.Response:
        image = self.images.get(request.match_info["id"])
        if image is None:
            raise web.HTTPNotFound
        return web.json_response(image)

    async def _create(self, request: web.Request) -> web.Response:
        image = await request.json()
        self.images[image["id"]] = {**image, "status": "queued"}
        return web.json_response(image, status=201)

    async def _download(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.data:
            raise web.HTTPNotFound
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"]).groups())
        data = self.data[request.match_info["id"]]
        if first >= len(data):
            raise web.HTTPRequestRangeNotSatisfiable
        return web.Response(status=206, body=data[first : last + 1])

    async def _upload(self, request: web.Request) -> web.Response:
        image = self.images[request.match_info["id"]]
        assert image["status"] == "queued"
        self.data[image["id"]] = await request.read()
        image["status"] = "active"
        return web.Response(status=204)


@asynccontextmanager
async def running(
    *sites: Site, data: Path | None = None, attach: Callable[[list[Sites]], None] = lambda _views: None
) -> AsyncIterator[list[Sites]]:
    """Serve the sites while the context lasts; yield how each of them sees all.

    With a directory, each site has its own bringer, which answers the others. `attach` adds further handlers.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        urls: dict[str, str] = {}
        views = [Sites(site.name, urls, session) for site in sites]
        for site, view in zip(sites, views, strict=True):
            if data is None:
                ChunkServer(view).attach(site.application)
                Holders(view, site.ledger, site.conflicts).attach(site.application)
            else:
                (data / site.name).mkdir()
                site.bringer = Bringer(view, data / site.name, site.conflicts)
                stack.callback(site.bringer.close)
                site.bringer.attach(site.application)
        attach(views)
        for site in sites:
            runner = web.AppRunner(site.application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls[site.name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield views
