"""The two servers of a gateway: for clients, and for the gateways of other sites."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from atoll.errors import AtollError
from atoll.gateway import headers as heads
from atoll.gateway import scope as scopes
from atoll.gateway.call import Call, Reply, Unreachable
from atoll.gateway.console import PEER_PATH, Consoles
from atoll.gateway.console import url as console_url
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.gateway import Answer, Gateway
from atoll.gateway.limited import LimitedLog
from atoll.gateway.options import Options
from atoll.gateway.peer import PEER
from atoll.gateway.target import SERVICES, Refused, Target, parse
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Bytes of a request that is not an image's data: those are read once, this may have to be sent twice. The services take less still."""

SMALL = 64 << 10
"""Answers up to so many bytes are sent in one piece."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_LINE = 16 << 10
"""Bytes of a header or of the first line: filters may be long."""

JOIN = "/atoll/join"
PING = "/atoll/ping"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Both servers.

    Args:
        options: of this gateway.
        gateway: answers.
        mesh: knows whose certificate is whose.
        consoles: carries the consoles of guests.
        join: answers `POST /atoll/join`, the one request that needs no certificate; None: it is refused.
        extend: adds handlers of its own to the peer server's application, below `/atoll/`.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        options: Options,
        gateway: Gateway,
        mesh: Mesh,
        consoles: Consoles,
        *,
        join: Handler | None = None,
        extend: Callable[[web.Application], None] | None = None,
    ) -> None:
        self._options = options
        self._gateway = gateway
        self._mesh = mesh
        self._consoles = consoles
        self._default_host = f"{options.host}:{options.public_port}"
        self._log = LimitedLog(LOG)
        public = web.Server(
            self._public, request_factory=_request, access_log=None, auto_decompress=False, max_line_size=_LINE, max_field_size=_LINE
        )
        self._public_runner = web.ServerRunner(public)
        application = web.Application(client_max_size=MAX_BODY, middlewares=[self._check_peer])
        if join is not None:
            application.router.add_post(JOIN, join)
        application.router.add_get(PING, _pong)
        if extend is not None:
            extend(application)
        application.router.add_get(PEER_PATH + "/{kind}", self._peer_console)
        application.router.add_route("*", "/{path:.*}", self._peer)
        self._peer_runner = web.AppRunner(
            application, access_log=None, auto_decompress=False, max_line_size=_LINE, max_field_size=_LINE, keepalive_timeout=90
        )

    async def start(self, public: socket.socket, peer: socket.socket) -> None:
        """Serve on sockets that listen."""
        await self._public_runner.setup()
        await self._peer_runner.setup()
        await web.SockSite(self._public_runner, public).start()
        await web.SockSite(self._peer_runner, peer, ssl_context=server_tls(self._options.tls)).start()

    async def stop(self) -> None:
        """Serve no more; what is under way may end, but for consoles, which may never."""
        await self._consoles.sessions.stop()
        await self._public_runner.cleanup()
        await self._peer_runner.cleanup()

    async def _public(self, request: web.BaseRequest) -> web.StreamResponse:
        service, last = "", False
        try:
            target = parse(request.raw_path)
            service = target.service
            if not service and target.path.startswith(console_url.PREFIX):
                return await self._consoles.of_client(request, target)
            _check(request)
            if not service:
                return self._own(target)
            call = await self._call_of_client(request, target)
            # A scope in the URL is what the client was pointed at; one in the header is about this request.
            expression = request.headers.get(heads.SCOPE, target.scope)
            return await _respond(request, await self._gateway.answer(call, expression, _scope_prefix(target)))
        except Refused as refused:
            self._log.warning(
                "refused from %s: %.40s %.200r: %s", request.remote, request.method, console_url.shown(request.raw_path), refused.message
            )
            reply = fault(service, refused.status, refused.message, self._options.site)
            last = True
        except web.HTTPRequestEntityTooLarge:
            reply = fault(service, 413, f"the request is larger than {MAX_BODY} bytes", self._options.site)
        except web.RequestPayloadError as error:
            reply = fault(service, 400, f"the request's body is malformed: {error}", self._options.site)
            last = True
        except AtollError as error:
            reply = fault(service, error.kind.status, error.message, self._options.site)
        except Unreachable as error:
            LOG.info("%s %s: %s", request.method, console_url.shown(request.raw_path), error)
            reply = self._unreachable(service, error)
        return await _respond(request, reply, last=last)

    def _unreachable(self, service: str, error: Unreachable) -> Reply:
        if error.site == self._options.site:
            return fault(service, 503, str(error), self._options.site)
        return unreachable(service, [error.site], self._options.site)

    def _own(self, target: Target) -> web.Response:
        if target.path == "/healthcheck":
            return web.Response(text="OK")
        base = f"http://{self._default_host}{target.prefix}"
        services = {name: f"{base}/{name}" for name in SERVICES if name in self._options.services}
        index = {"cloud": self._options.cloud, "site": self._options.site, "services": services}
        return web.Response(body=orjson.dumps(index), content_type="application/json")

    async def _call_of_client(self, request: web.BaseRequest, target: Target) -> Call:
        headers = heads.of_client(request.headers)
        host = request.headers.get("Host") or self._default_host
        if not heads.valid_host(host):
            raise Refused(400, "the Host header is no host")
        headers["X-Forwarded-Proto"] = "http"
        headers["X-Forwarded-Host"] = host
        headers["X-Forwarded-Prefix"] = f"{_scope_prefix(target)}/{target.service}"
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        headers[heads.REQUEST_ID] = request_id
        headers.popall(heads.SCOPE, None)
        body = await _body(request, headers)
        return Call(request.method, target.service, target.path, target.query, headers, body, request_id)

    async def _peer(self, request: web.Request) -> web.StreamResponse:
        """Another gateway asks this site's own services."""
        service, last = "", False
        try:
            target = parse(request.raw_path)
            service = target.service
            _check(request, target)
            headers = heads.end_to_end(request.headers.items(), request.headers.get("Connection", ""))
            for name in ("Host", heads.HOP):
                headers.popall(name, None)
            request_id = heads.request_id(headers.get(heads.REQUEST_ID))
            call = Call(request.method, service, target.path, target.query, headers, await _body(request, headers), request_id)
            return await _respond(request, await self._gateway.local(call))
        except Refused as refused:
            path = console_url.shown(request.raw_path)
            self._log.warning("refused from peer %s: %.40s %.200r: %s", request.remote, request.method, path, refused.message)
            reply = fault(service, refused.status, refused.message, self._options.site)
            last = True
        except Unreachable as error:
            reply = fault(service, 503, str(error), self._options.site)
        return await _respond(request, reply, last=last)

    async def _peer_console(self, request: web.Request) -> web.StreamResponse:
        return await self._consoles.of_peer(request, request[PEER])

    @web.middleware
    async def _check_peer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through only who is a member now: also on a connection that is older than its revocation."""
        if request.raw_path == JOIN and request.method == "POST":
            return await handler(request)
        site = self._peer_site(request)
        if site is None:
            path = console_url.shown(request.raw_path)
            self._log.warning("refused from peer %s: %.40s %.200r: no member's certificate", request.remote, request.method, path)
            response = web.Response(status=403, text="no member of this cloud\n")
            response.force_close()
            return response
        request[PEER] = site
        return await handler(request)

    def _peer_site(self, request: web.BaseRequest) -> str | None:
        tls = request.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        return self._mesh.site_of_fingerprint(hashlib.sha256(certificate).hexdigest()) if certificate else None


def _scope_prefix(target: Target) -> str:
    """What links and the catalogue must begin with, so that a client stays in the scope of its URL: without escapes, or they break.

    Raises:
        ScopeError: the scope makes no sense.
    """
    return "" if target.scope is None else scopes.prefix_of(scopes.parse(target.scope))


def server_tls(directory: Path) -> ssl.SSLContext:
    """What the peer server shows, and whom it believes. Who has no certificate yet may still ask to join."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: object,
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, protocol._loop, client_max_size=MAX_BODY)  # type: ignore[arg-type]


def _check(request: web.BaseRequest, peers: Target | None = None) -> None:
    """Refuse what a proxy and the server behind it could read in two ways; and what a peer has no reason to ask for."""
    if peers is not None and (not peers.service or peers.scope is not None):
        raise Refused(404, "gateways ask for a service")
    if request.method not in _METHODS:
        raise Refused(400, "there is no such method")
    if "Upgrade" in request.headers:
        raise Refused(400, "nothing else is spoken here")
    if len(request.headers.getall("Host", ())) > 1:
        raise Refused(400, "more than one Host header")


async def _body(request: web.BaseRequest, headers: Mapping[str, str]) -> bytes | AsyncIterator[bytes] | None:
    if not request.body_exists:
        return None
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("Content-Type", "").startswith("application/octet-stream"):
        return request.content.iter_any()
    return await request.read()


async def _pong(_request: web.Request) -> web.Response:
    return web.Response(text="pong")


async def _respond(request: web.BaseRequest, answer: Answer, *, last: bool = False) -> web.StreamResponse:
    """Send an answer on: in one piece if it is small, else as it arrives.

    Args:
        request: what is answered.
        answer: the answer.
        last: close the connection then: what follows a request that was refused is not worth reading.
    """
    if not isinstance(answer, Reply) and request.method != "HEAD" and answer.length is not None and answer.length <= SMALL:
        answer = await answer.read()
    answer.headers.setdefault(heads.SITE, answer.site)
    if isinstance(answer, Reply):
        response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        if last:
            response.force_close()
        with suppress(ConnectionResetError):  # whoever asked has hung up
            await response.prepare(request)
            await response.write_eof()
        return response
    streamed = web.StreamResponse(status=answer.status, headers=answer.headers)
    try:
        await streamed.prepare(request)
        async for piece in answer.pieces():
            await streamed.write(piece)
        await streamed.write_eof()
    except BaseException:
        # What is cut short must not look whole.
        if request.transport is not None:
            request.transport.close()
        raise
    finally:
        answer.close()
    return streamed
