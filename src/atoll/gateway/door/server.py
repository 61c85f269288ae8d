"""The two servers of a gateway: for clients, and for the gateways of other sites."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from atoll.errors import AtollError
from atoll.gateway import handoffs, overlays, tracing
from atoll.gateway import scope as scopes
from atoll.gateway.console import PEER_PATH
from atoll.gateway.console import url as console_url
from atoll.gateway.door.client_limiter import ClientLimiter
from atoll.gateway.door.extensions import Extensions, OwnApi
from atoll.gateway.door.limited import LimitedLog
from atoll.gateway.door.limits import CLIENT_LIMITS, Limits
from atoll.gateway.door.listener import Handler, Listener
from atoll.gateway.door.respond import HELD, SMALL, respond
from atoll.gateway.edge import Door, concerns, upgrades
from atoll.gateway.faults import fault, unproven, unreachable
from atoll.gateway.gateway import Gateway
from atoll.gateway.identity.freshness import PATH as FRESHNESS
from atoll.gateway.identity.refusals import TokenRefusals, Unproven
from atoll.gateway.local import Answer
from atoll.gateway.options import Options
from atoll.gateway.peer import PEER
from atoll.gateway.request import headers as heads
from atoll.gateway.request.body import Upload, check_size, whole
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.target import SERVICES, STRICT, Refused, Target, parse
from atoll.gateway.request.token_verifier import TokenVerifier
from atoll.gateway.resolve.routes import is_image_data
from atoll.identifiers import ANNOUNCEMENT
from atoll.mesh import compute_sites
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Greatest size, in bytes, of a request body, except image data.

The body is held in memory because it may have to be sent twice; image data are passed on as they arrive. The services accept less still."""

LINGER_S = 2.0
"""Seconds during which the rest of an unwanted body is read, so that the client reads the answer."""

AT_PEER_PORT = Limits(
    accepts_s=5, requests_s=1, requests=10, strangers_requests_s=2, strangers_requests=20, idle_s=90, connections_of_address=512
)
"""The limits of the peer port, where a client without a certificate may ask to join and nothing else."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_LINE = 16 << 10
"""Greatest size, in bytes, of a header or of the request line, which holds the filters of a list."""

JOIN = "/atoll/join"
"""Path of the request at the peer port that needs no certificate, besides `ANNOUNCEMENT` if the gateway is announced."""

PING = "/atoll/ping"
"""Path at the peer port by which another gateway checks that this one answers."""

OF_COMPUTE_SITES = frozenset(("identity", "image", "network", "placement"))
"""Services to which nova-compute at a compute site sends requests."""

PeerHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GatewayServer:
    """The HTTP servers of a gateway's public port and of its peer port.

    Args:
        options: the gateway's settings.
        gateway: answers the requests.
        mesh: the members of the cloud and their certificates.
        extensions: see `Extensions`.
        limits: the limits of the public port.
    """

    def __init__(self, options: Options, gateway: Gateway, mesh: Mesh, extensions: Extensions, limits: Limits = CLIENT_LIMITS) -> None:
        self._options = options
        self._gateway = gateway
        self._mesh = mesh
        self._consoles = extensions.consoles
        self._edge = extensions.edge
        self._bases = extensions.bases
        self._handoffs = extensions.handoffs
        self._freshness = extensions.freshness
        self._default_host = f"{options.host}:{options.public_port}"
        self._log = LimitedLog(LOG)
        self._tokens = TokenVerifier(options.token_keys)
        self._refusals = TokenRefusals(gateway.sites, self._tokens, extensions.freshness)
        self._limiter = ClientLimiter(limits)
        self._peer_limiter = ClientLimiter(AT_PEER_PORT, self._is_member)
        self._compute_sites = compute_sites.ComputeSiteList(options.computes_file)
        public = web.Server(
            self._public,
            request_factory=_request,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LINE,
            max_field_size=_LINE,
            lingering_time=LINGER_S,
        )
        self._public_runner = web.ServerRunner(public)
        application = web.Application(client_max_size=MAX_BODY, middlewares=[self._check_peer])
        application.router.add_get(PING, _pong)
        if options.announce:
            application.router.add_get(ANNOUNCEMENT, self._announcement)
        extensions.extend(application)
        application.router.add_get(PEER_PATH + "/{kind}", self._peer_console)
        application.router.add_route("*", "/{path:.*}", self._peer)
        for route in application.router.routes():
            route._expect_handler = _expect  # aiohttp's would answer before `_check_peer` does
        self._peer_runner = web.AppRunner(
            application, access_log=None, auto_decompress=False, max_line_size=_LINE, max_field_size=_LINE, lingering_time=LINGER_S
        )
        self._doors: list[Listener] = []
        self._of_strangers = {("POST", JOIN)} | ({("GET", ANNOUNCEMENT)} if options.announce else set())

    async def start(self, public: socket.socket, peer: socket.socket) -> None:
        """Start both servers on listening sockets."""
        await self._public_runner.setup()
        await self._peer_runner.setup()
        for runner, limiter, listener, tls in (
            (self._public_runner, self._limiter, public, None),
            (self._peer_runner, self._peer_limiter, peer, server_tls(self._options.tls)),
        ):
            assert runner.server is not None
            door = Listener(runner.server, limiter, tls)
            door.open(listener)
            self._doors.append(door)

    async def stop(self) -> None:
        """Stop both servers once the requests under way have ended; consoles and WebSockets are closed, because they may never end."""
        for door in self._doors:
            door.close()
        await self._consoles.sessions.stop()
        await self._edge.stop()
        await self._public_runner.cleanup()
        await self._peer_runner.cleanup()

    async def _public(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = _handler(request)
        handler.request_began()
        try:
            with ExitStack() as held:
                api = self._own_api(request.raw_path)
                answer = self._of_client if api is None else partial(self._by_own_api, api, self._limiter)
                return await tracing.answered(request, lambda: answer(request, handler, held), client=lambda: self._asker(request, handler))
        finally:
            handler.request_ended()

    def _own_api(self, raw_path: str) -> OwnApi | None:
        """Return the API of the gateway's own to which the target of a request belongs; `None` for OpenStack's."""
        if overlays.concerns(raw_path):
            return self._handoffs if handoffs.concerns(raw_path) else self._bases
        return self._edge if concerns(raw_path) else None

    def _asker(self, request: web.BaseRequest, handler: Handler) -> str | None:
        # The signature of a new token is checked only after the limits of strangers: its first request is a stranger's.
        user = self._tokens.remembered(request.headers.get("X-Auth-Token", ""))
        return user if self._limiter.may_trace(handler.address, user) else None

    async def _of_client(self, request: web.BaseRequest, handler: Handler, held: ExitStack) -> web.StreamResponse:
        service, last = "", False
        more: dict[str, str] = {}
        try:
            user = self._admit(request.headers.get("X-Auth-Token", ""), handler, self._limiter)
            target = parse(request.raw_path)
            service = target.service
            if not service and target.path.startswith(console_url.PREFIX):
                _check_version(request)
                return await self._consoles.of_client(request, target)
            _check(request)
            if not service:
                return self._own(target)
            call = await self._call_of_client(request, target, user, held)
            if issuer := self._tokens.issuer(call.token):
                await self._freshness.follow_token(issuer, call.token)
            # The header's scope is for this request, and replaces the scope in the URL, which all requests of the client carry.
            expression = request.headers.get(heads.SCOPE, target.scope)
            send = partial(self._gateway.answer, call, expression, _scope_prefix(target))
            answer = await self._refusals.settle(call, await send(), send)
            self._note_sign_in(call, answer, handler)
            return await respond(request, answer, held=SMALL if is_image_data(call.service, call.path) else HELD)
        except Refused as refused:
            self._log.warning(
                "refused from %s: %.40s %.200r: %s", request.remote, request.method, console_url.shown(request.raw_path), refused.message
            )
            reply = fault(service, refused.status, refused.message, self._options.site)
            last, more = True, _explained(refused.status)
        except web.RequestPayloadError as error:
            reply = fault(service, 400, f"the body of the request is malformed: {error}", self._options.site)
            last = True
        except AtollError as error:
            reply = fault(service, error.kind.status, error.message, self._options.site)
        except Unproven as error:
            reply = unproven(service, error.site, self._options.site)
        except Unreachable as error:
            LOG.info("%s %s: %s", request.method, console_url.shown(request.raw_path), error)
            reply = self._unreachable(service, error)
        return await respond(request, reply, last=last, more=more)

    async def _by_own_api(
        self, api: OwnApi, limiter: ClientLimiter, request: web.BaseRequest, handler: Handler, held: ExitStack
    ) -> web.StreamResponse:
        """Answer a request for an API of the gateway's own, such as that of a device that looks for the nearest site."""

        async def admit(token: str) -> str:
            user = self._admit(token, handler, limiter)
            _check(request, upgrade=upgrades(request.raw_path))
            if issuer := self._tokens.issuer(token):
                await self._freshness.follow_token(issuer, token)
            return user

        async def body(limit: int) -> bytes:
            held.enter_context(limiter.body(handler.address, check_size(request, limit)))
            await _go_on(request)
            return await whole(request, limit, limiter.limits.body_s)

        reply = await api.answer(request, Door(admit, body))
        if isinstance(reply, web.StreamResponse):
            return reply
        # The body of a refused request may not have been read.
        return await respond(request, reply, last=reply.status >= 300)

    def _admit(self, token: str, handler: Handler, limiter: ClientLimiter) -> str:
        """Count a request against the client's limits, and return the user of its token; empty if it has no token signed by a site.

        Raises:
            TooMany: the client has reached a limit.
        """
        user = self._tokens.remembered(token)
        limiter.ask(handler.address, user)
        if not user and token and (user := self._tokens.user(token)):
            handler.address.requests.give_back(1)
        if user:
            handler.recognise()
        return user

    def _note_sign_in(self, call: Call, answer: Answer, handler: Handler) -> None:
        """Refund the address for a sign-in that succeeded, and charge it for one that Keystone refused, which is costly to check."""
        if call.user or call.method != "POST" or call.service != "identity" or call.path.rstrip("/") != "/v3/auth/tokens":
            return
        if answer.status < 400:
            self._limiter.signed_in(handler.address, handler)
            handler.known = True
        elif answer.status in {401, 403}:
            self._limiter.refused(handler.address)

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

    async def _call_of_client(self, request: web.BaseRequest, target: Target, user: str, held: ExitStack) -> Call:
        headers = heads.of_client(request.headers)
        host = request.headers.get("Host") or self._default_host
        if not heads.valid_host(host):
            raise Refused(400, "the Host header is not a host name or address with an optional port")
        headers["X-Forwarded-Proto"] = "http"
        headers["X-Forwarded-Host"] = host
        headers["X-Forwarded-Prefix"] = f"{_scope_prefix(target)}/{target.service}"
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        headers[heads.REQUEST_ID] = request_id
        headers.popall(heads.SCOPE, None)
        strict = heads.strict(request.headers, target.strict or self._options.lists == "strict")
        call = Call(request.method, target.service, target.path, target.query, headers, None, request_id, user, strict)
        return await self._with_body(request, call, self._limiter, held)

    async def _with_body(self, request: web.BaseRequest, call: Call, limiter: ClientLimiter, held: ExitStack) -> Call:
        """Return the call with its body: read whole, or, for image data, as a stream that arrives while it is passed on.

        Raises:
            Refused: the body is too large or too slow, the client has reached a limit, or its token is not valid.
            Unreachable: Keystone does not answer whether the token is valid, or can't know it (`Unproven`).
        """
        if is_image_data(call.service, call.path):
            if call.user:
                held.enter_context(limiter.transfer(call.user))
            if request.body_exists:
                await self._refusals.validate(call.token, call.request_id)
                await _go_on(request)
                return replace(call, body=Upload(request.content))
        if not request.body_exists:
            return call
        limit = MAX_BODY if call.user else limiter.limits.stranger_body
        held.enter_context(limiter.body(_handler(request).address, check_size(request, limit)))
        await _go_on(request)
        body = await whole(request, limit, limiter.limits.body_s)
        if "Content-Length" in call.headers:
            call.headers["Content-Length"] = str(len(body))  # the client may have written the number differently, such as 007
        return replace(call, body=body)

    async def _peer(self, request: web.Request, compute_site: str = "") -> web.StreamResponse:
        """Answer another gateway, or a compute site of this site, from this site's own services."""
        with ExitStack() as held:
            if compute_site and overlays.concerns(request.raw_path):
                return await self._by_own_api(self._bases, self._peer_limiter, request, _handler(request), held)
            peer = compute_site or request.get(PEER, "")
            return await tracing.answered(request, lambda: self._of_peer(request, compute_site, held), peer=peer)

    async def _of_peer(self, request: web.Request, compute_site: str, held: ExitStack) -> web.StreamResponse:
        service, last = "", False
        try:
            target = parse(request.raw_path, of_service=bool(compute_site))
            service = target.service
            _check(request, target)
            headers = _headers_of_compute_site(request, service) if compute_site else heads.of_peer(request.headers, service)
            request_id = heads.request_id(headers.get(heads.REQUEST_ID))
            user = self._tokens.user(headers.get("X-Auth-Token", ""))
            call = Call(request.method, service, target.path, target.query, headers, None, request_id, user)
            call = await self._with_body(request, call, self._peer_limiter, held)
            send = partial(self._gateway.answer_peer, call)
            answer = await self._refusals.settle(call, await send(), send)
            return await respond(request, answer, held=SMALL if is_image_data(service, call.path) else HELD)
        except Refused as refused:
            path = console_url.shown(request.raw_path)
            self._log.warning("refused from peer %s: %.40s %.200r: %s", request.remote, request.method, path, refused.message)
            reply = fault(service, refused.status, refused.message, self._options.site)
            last = True
        except web.RequestPayloadError as error:
            reply = fault(service, 400, f"the body of the request is malformed: {error}", self._options.site)
            last = True
        except Unproven as error:
            reply = unproven(service, error.site, self._options.site)
        except Unreachable as error:
            reply = fault(service, 503, str(error), self._options.site)
        return await respond(request, reply, last=last)

    async def _peer_console(self, request: web.Request) -> web.StreamResponse:
        return await self._consoles.of_peer(request, request[PEER])

    @web.middleware
    async def _check_peer(self, request: web.Request, handler: PeerHandler) -> web.StreamResponse:
        """Refuse requests of sites that are not members now, even on connections that were opened before a site was revoked."""
        connection = _handler(request)
        connection.request_began()
        try:
            _check_version(request)
            fingerprint = _fingerprint(request)
            site = self._mesh.site_of_fingerprint(fingerprint) if fingerprint else None
            if site is not None:
                connection.recognise()
                request[PEER] = site
                if request.path != FRESHNESS:
                    await self._freshness.follow(site, request.headers.get(heads.SEEN, ""))
                return await handler(request)
            if compute_site := self._compute_sites.name_of(fingerprint):
                connection.recognise()
                return await self._peer(request, compute_site)
            self._peer_limiter.ask(connection.address, "")
            if (request.method, request.raw_path) in self._of_strangers:
                return await handler(request)
            why, status = "the client has no certificate of a member of this cloud", 403
        except Refused as refused:
            why, status = refused.message, refused.status
        finally:
            connection.request_ended()
        path = console_url.shown(request.raw_path)
        self._log.warning("refused from peer %s: %.40s %.200r: %s", request.remote, request.method, path, why)
        response = web.Response(status=status, text=f"{why}\n")
        response.force_close()
        return response

    async def _announcement(self, _request: web.Request) -> web.StreamResponse:
        """Answer a device that has found this gateway on its local network; the certificate of the connection proves the answer."""
        options = self._options
        url = f"http://{self._default_host}/identity/v3"
        return web.json_response({"cloud": options.cloud, "site": options.site, "region": options.region, "url": url})

    def _is_member(self, host: str) -> bool:
        return any(member.host == host for member in self._mesh.members().values())


def _fingerprint(request: web.BaseRequest) -> str:
    """Return the SHA-256 fingerprint of a peer's certificate in hexadecimal; empty if the peer has presented none."""
    tls = request.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return hashlib.sha256(certificate).hexdigest() if certificate else ""


def _headers_of_compute_site(request: web.BaseRequest, service: str) -> CIMultiDict[str]:
    """Return the headers of a compute site's request that go on to a service: the same as a client's.

    Raises:
        Refused: nova-compute sends no requests to that service.
    """
    if service not in OF_COMPUTE_SITES:
        raise Refused(403, f"a compute site may not use /{service}; it may use {', '.join(sorted(OF_COMPUTE_SITES))}")
    return heads.of_client(request.headers)


def _scope_prefix(target: Target) -> str:
    """Return the prefix of links and of the catalogue that keeps a client in the scope of its URL, without escapes, which clients break.

    Raises:
        ScopeError: the scope is malformed.
    """
    scope = "" if target.scope is None else scopes.prefix_of(scopes.parse(target.scope))
    return f"{STRICT}{scope}" if target.strict else scope


def server_tls(directory: Path) -> ssl.SSLContext:
    """Return the TLS settings of the peer port. The client's certificate is optional, so that a new site can ask to join."""
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
    return web.BaseRequest(message, payload, protocol, writer, task, protocol._loop, client_max_size=MAX_BODY)  # type: ignore[arg-type]  # aiohttp passes the same


def _check(request: web.BaseRequest, peers: Target | None = None, *, upgrade: bool = False) -> None:
    """Refuse requests that a proxy and the server behind it could interpret differently, and requests that no peer sends.

    Raises:
        Refused: the request is of one of these kinds.
    """
    if peers is not None and (not peers.service or peers.scope is not None or peers.strict):
        raise Refused(404, "the peer port serves /SERVICE/PATH, without a scope")
    _check_version(request)
    if request.method not in _METHODS:
        raise Refused(400, f"unknown method; known are {', '.join(sorted(_METHODS))}")
    if "Upgrade" in request.headers and not upgrade:
        raise Refused(400, "this path offers no upgrade to another protocol")
    if len(request.headers.getall("Host", ())) > 1:
        raise Refused(400, "the request has more than one Host header")


def _check_version(request: web.BaseRequest) -> None:
    if request.version not in {HttpVersion10, HttpVersion11}:
        raise Refused(400, "unsupported version of HTTP; supported are 1.0 and 1.1")


async def _expect(_request: web.Request) -> None:
    """Send no `100 Continue` yet; `_go_on` sends it once the body is needed."""


async def _go_on(request: web.BaseRequest) -> None:
    """Send `100 Continue` to a client that waits for it."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _handler(request: web.BaseRequest) -> Handler:
    assert isinstance(request.protocol, Handler), "the connection was not accepted by a Listener"
    return request.protocol


def _explained(status: int) -> dict[str, str]:
    """Return the headers that tell a refused client what to do."""
    return {"Retry-After": "1"} if status in {429, 503} else {"WWW-Authenticate": "Keystone"} if status == 401 else {}


async def _pong(_request: web.Request) -> web.Response:
    return web.Response(text="pong")
