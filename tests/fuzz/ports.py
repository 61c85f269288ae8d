"""Fuzz targets for the public and the peer port of a gateway, in one thread and without sockets: bytes in, checks of all effects."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.console import Consoles
from atoll.gateway.door import server as servers
from atoll.gateway.door.client_limiter import ClientLimiter
from atoll.gateway.door.extensions import Extensions
from atoll.gateway.door.limits import Limits
from atoll.gateway.door.listener import Handler
from atoll.gateway.door.server import MAX_BODY, GatewayServer
from atoll.gateway.edge import Zones, edge_apis
from atoll.gateway.handoffs import Handoffs
from atoll.gateway.options import Options
from atoll.gateway.overlays import LaunchImages, OverlayBases
from atoll.gateway.request import body
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Call, Reply, json_reply
from atoll.gateway.request.target import SERVICES, Refused
from atoll.gateway.resolve.routes import match

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from no_freshness import NoFreshness

TURNS = 40
"""Number of rounds of the event loop after each piece."""

LONGEST_S = 2.0
"""Greatest processor time for one input, in seconds."""

_PLAIN = re.compile(r"/[\x21-\x7e]*")
_ANSWER = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9] |HTTP/[0-9]\.[0-9] 4[0-9][0-9] ")


class Finding(Exception):
    """An effect of an input that must not occur."""


class Transport(asyncio.Transport):
    """A transport that records the written bytes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.sent = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, pieces: Any) -> None:
        self.sent += b"".join(pieces)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Sites:
    """The other sites, and a Keystone that accepts any token except `bad`."""

    here = "paris"

    async def own_token(self, _service: str) -> str:
        return "own"

    def everywhere(self, _service: str = "") -> list[str]:
        return ["paris", "lyon"]

    def reachable(self, _service: str = "") -> list[str]:
        return ["lyon"]

    def near_first(self, sites: list[str]) -> list[str]:
        return sites

    async def send(self, _site: str, call: Call, *_ignored: float) -> Reply:
        good = call.service == "identity" and call.headers.get("X-Subject-Token") != "bad"
        told = {"token": {"roles": [{"name": "member"}], "project": {"id": "p"}}} if call.service == "identity" else {}
        return json_reply(200 if good else 404, told, "paris")

    async def open_socket(self, *_arguments: Any) -> Any:
        raise OSError("there is no other site here")


class Gateway:
    """A gateway that checks the requests it gets, and sends empty answers and lists."""

    def __init__(self) -> None:
        self.sites = Sites()

    async def answer(self, call: Call, _scope: str | None = None, _prefix: str = "") -> Reply:
        return await self.answer_peer(call)

    async def answer_peer(self, call: Call) -> Reply:
        check(call)
        match(call.method, call.service, call.path)
        heads.microversion(call.headers)
        if call.body is not None and not isinstance(call.body, bytes):
            try:
                async for _piece in call.body:
                    pass
            except ConnectionResetError as error:  # as the real class does
                raise Refused(400, str(error)) from error
        return json_reply(200, {"images": [], "servers": [], "flavors": []}, "paris")


def check(call: Call) -> None:
    """Check that a request contains nothing that no service may see.

    Raises:
        Finding: the request contains it.
    """
    names = [name.lower() for name in call.headers]
    parts = call.path.split("/")[1:]
    wrong = {
        "a service that there is not": call.service not in SERVICES,
        "a header twice": len(names) != len(set(names)),
        "a header with an underscore": any("_" in name for name in names),
        "a header of the middleware": bool(set(names) & heads._OF_MIDDLEWARE),
        "a header of gateways": any(name.startswith("x-atoll-") for name in names),
        "a line break": any(mark in value for value in call.headers.values() for mark in "\r\n\0"),
        "a path that is not plain": not _PLAIN.fullmatch(call.path) or "?" in call.path or "#" in call.path,
        "a relative path": any(part in {".", ".."} for part in parts) or "" in parts[:-1],
        "a large body": isinstance(call.body, bytes) and len(call.body) > MAX_BODY,
        "a length that is not the body's": isinstance(call.body, bytes)
        and call.headers.get("Content-Length", str(len(call.body))) != str(len(call.body)),
        "a user without a token that was signed": bool(call.user),
    }
    for name, found in wrong.items():
        if found:
            raise Finding(f"{name}: {call}")


class _Errors(logging.Handler):
    """A logging handler that records each logged error as a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter("%(name)s: %(message)s").format(record))


class Port:
    """A port of a gateway.

    Args:
        peer: whether it is the peer port, where the client is a member, or the public port.
    """

    def __init__(self, *, peer: bool) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self._errors = _Errors()
        logging.getLogger().handlers = [self._errors]
        logging.getLogger().setLevel(logging.ERROR)
        self.loop.set_exception_handler(lambda _loop, context: self._errors.found.append(str(context)))
        self._limits = Limits(requests=10**6, strangers_requests=10**6, connections=10**6, accepts_s=10**6)
        self._peer = peer
        self._server = self.loop.run_until_complete(self._make())

    async def _make(self) -> Any:
        directory = Path(tempfile.mkdtemp(prefix="fuzz"))
        empty = dict.fromkeys(("data", "sockets", "tls", "members_file", "token_keys"), directory)
        options = Options(
            cloud="fuzz",
            site="paris",
            identity_database=f"sqlite:///{directory}/keystone.db",
            region="r",
            host="192.0.2.2",
            public_port=8080,
            peer_port=8443,
            mesh_port=7448,
            services=dict.fromkeys(SERVICES, "http://192.0.2.2:1"),
            local_users=(),
            local_endpoints=(),
            password="secret",
            **empty,
        )
        sites: Any = Sites()
        mesh: Any = SimpleNamespace(site_of_fingerprint=lambda _: "lyon", members=dict, reachable=list, rtt_ms=lambda *_: None)
        gateway: Any = Gateway()
        freshness: Any = NoFreshness()
        edge, bases = (
            edge_apis(options, sites, Zones(options, sites, mesh), gateway.answer),
            OverlayBases(sites, gateway, LaunchImages(sites, directory)),
        )
        handoffs = Handoffs(options, sites, gateway, SimpleNamespace(), mesh)
        extensions = Extensions(Consoles(sites, "192.0.2.2", directory), edge, bases, handoffs, freshness, self._extend)
        self._whole = GatewayServer(options, gateway, mesh, extensions, self._limits)
        servers._fingerprint = lambda _request: "lyon's"
        runner = self._whole._peer_runner if self._peer else self._whole._public_runner
        await runner.setup()
        return runner.server

    def _extend(self, application: web.Application) -> None:
        application.router.add_post(servers.JOIN, self._join)

    @staticmethod
    async def _join(request: Any) -> Any:
        await body.whole(request, 64 << 10)
        return web.Response()

    def feed(self, data: bytes) -> bytes:
        """Send bytes over a new connection, close it, and return the answer.

        Raises:
            Finding: the gateway behaved incorrectly.
        """
        begun = time.process_time()
        answer = self.loop.run_until_complete(self._feed(data))
        took = time.process_time() - begun
        if self._errors.found:
            found, self._errors.found = self._errors.found, []
            raise Finding(found[0])
        if took > LONGEST_S:
            raise Finding(f"it took {took:.1f} s")
        if answer and not _ANSWER.match(answer):
            raise Finding(f"no answer of HTTP: {answer[:200]!r}")
        return answer

    async def _feed(self, data: bytes) -> bytes:
        limiter = ClientLimiter(self._limits)
        self._whole._limiter = self._whole._peer_limiter = limiter
        address = limiter.admit("192.0.2.1")
        assert address is not None
        handler = Handler(self._server, address, limiter, **self._server._kwargs)
        transport = Transport()
        handler.connection_made(transport)
        size = 1 + data[0] * 8 if data else 1
        for start in range(1, len(data), size):
            if transport.closed:
                break
            handler.data_received(data[start : start + size])
            for _ in range(4):
                await asyncio.sleep(0)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        task = handler._task_handler
        handler.connection_lost(None)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if address.count or address.bytes or limiter._bytes or limiter._transfers:
            raise Finding("a connection has left something behind")
        return bytes(transport.sent)


def headers_of(data: bytes) -> CIMultiDict[str]:
    """Return headers from bytes: lines of a name and a value."""
    made: CIMultiDict[str] = CIMultiDict()
    for line in data.decode("latin-1").split("\n"):
        name, _colon, value = line.partition(":")
        made.add(name, value)
    return made


Target = Callable[[bytes], object]
