"""The two servers of a gateway: for clients, and for the gateways of other sites."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import orjson
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from atoll.errors import AtollError
from atoll.gateway import scope as scopes
from atoll.gateway.console import PEER_PATH, Consoles
from atoll.gateway.console import url as console_url
from atoll.gateway.door.door import Door, Handler
from atoll.gateway.door.limited import LimitedLog
from atoll.gateway.door.limits import Limits
from atoll.gateway.door.respond import HELD, SMALL, respond
from atoll.gateway.door.visitors import Visitors
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.gateway import Gateway
from atoll.gateway.identity.freshness import PATH as FRESHNESS
from atoll.gateway.identity.freshness import Freshness
from atoll.gateway.local import Answer
from atoll.gateway.options import Options
from atoll.gateway.peer import PEER
from atoll.gateway.request import headers as heads
from atoll.gateway.request.body import Upload, check_size, whole
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.callers import Callers
from atoll.gateway.request.target import SERVICES, STRICT, Refused, Target, parse
from atoll.gateway.request.validation import validate
from atoll.gateway.resolve.routes import is_image_data
from atoll.mesh import compute_sites
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Bytes of a request that is not an image's data: those are read once, this may have to be sent twice. The services take less still."""

LINGER_S = 2.0
"""Seconds for which the rest of a body is read that nobody wants, so that the client reads the answer."""

AT_PEER_PORT = Limits(
    accepts_s=5, requests_s=1, requests=10, strangers_requests_s=2, strangers_requests=20, idle_s=90, connections_of_address=512
)
"""Of the peer port; whoever has no certificate may ask to join, and nothing else."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_LINE = 16 << 10
"""Bytes of a header or of the first line: filters may be long."""

JOIN = "/atoll/join"
PING = "/atoll/ping"

OF_COMPUTE_SITES = frozenset(("identity", "image", "network", "placement"))
"""Services that nova-compute asks."""

PeerHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Both servers.

    Args:
        options: of this gateway.
        gateway: answers.
        mesh: knows whose certificate is whose.
        consoles: carries the consoles of guests.
        join: answers `POST /atoll/join`, the one request that needs no certificate; None: it is refused.
        extend: adds handlers of its own to the peer server's application, below `/atoll/`.
        limits: what a client may have of the public port.

    Attributes:
        freshness: has this site know what other sites knew when they sent a request or issued a token; `None`: they are not asked.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        options: Options,
        gateway: Gateway,
        mesh: Mesh,
        consoles: Consoles,
        *,
        join: PeerHandler | None = None,
        extend: Callable[[web.Application], None] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - it can't be changed
    ) -> None:
        self._options = options
        self._gateway = gateway
        self._mesh = mesh
        self._consoles = consoles
        self.freshness: Freshness | None = None
        self._default_host = f"{options.host}:{options.public_port}"
        self._log = LimitedLog(LOG)
        self._callers = Callers(options.token_keys)
        self._visitors = Visitors(limits)
        self._peers = Visitors(AT_PEER_PORT, self._is_member)
        self._compute_sites = compute_sites.Followed(options.computes_file)
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
        if join is not None:
            application.router.add_post(JOIN, join)
        application.router.add_get(PING, _pong)
        if extend is not None:
            extend(application)
        application.router.add_get(PEER_PATH + "/{kind}", self._peer_console)
        application.router.add_route("*", "/{path:.*}", self._peer)
        for route in application.router.routes():
            route._expect_handler = _expect  # upstream's would answer before `_check_peer` does
        self._peer_runner = web.AppRunner(
            application, access_log=None, auto_decompress=False, max_line_size=_LINE, max_field_size=_LINE, lingering_time=LINGER_S
        )
        self._doors: list[Door] = []

    async def start(self, public: socket.socket, peer: socket.socket) -> None:
        """Serve on sockets that listen."""
        await self._public_runner.setup()
        await self._peer_runner.setup()
        for runner, visitors, listener, tls in (
            (self._public_runner, self._visitors, public, None),
            (self._peer_runner, self._peers, peer, server_tls(self._options.tls)),
        ):
            assert runner.server is not None
            door = Door(runner.server, visitors, tls)
            door.open(listener)
            self._doors.append(door)

    async def stop(self) -> None:
        """Serve no more; what is under way may end, but for consoles, which may never."""
        for door in self._doors:
            door.close()
        await self._consoles.sessions.stop()
        await self._public_runner.cleanup()
        await self._peer_runner.cleanup()

    async def _public(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = _handler(request)
        handler.request_began()
        try:
            with ExitStack() as held:
                return await self._of_client(request, handler, held)
        finally:
            handler.request_ended()

    async def _of_client(self, request: web.BaseRequest, handler: Handler, held: ExitStack) -> web.StreamResponse:
        service, last = "", False
        more: dict[str, str] = {}
        try:
            user = self._admit(request, handler, self._visitors)
            target = parse(request.raw_path)
            service = target.service
            if not service and target.path.startswith(console_url.PREFIX):
                _check_version(request)
                return await self._consoles.of_client(request, target)
            _check(request)
            if not service:
                return self._own(target)
            call = await self._call_of_client(request, target, user, held)
            if self.freshness is not None and (issuer := self._callers.issuer(call.token)):
                await self.freshness.follow_token(issuer, call.token)
            # A scope in the URL is what the client was pointed at; one in the header is about this request.
            expression = request.headers.get(heads.SCOPE, target.scope)
            answer = await self._gateway.answer(call, expression, _scope_prefix(target))
            self._note_sign_in(call, answer, handler)
            return await respond(request, answer, held=SMALL if is_image_data(call.service, call.path) else HELD)
        except Refused as refused:
            self._log.warning(
                "refused from %s: %.40s %.200r: %s", request.remote, request.method, console_url.shown(request.raw_path), refused.message
            )
            reply = fault(service, refused.status, refused.message, self._options.site)
            last, more = True, _explained(refused.status)
        except web.RequestPayloadError as error:
            reply = fault(service, 400, f"the request's body is malformed: {error}", self._options.site)
            last = True
        except AtollError as error:
            reply = fault(service, error.kind.status, error.message, self._options.site)
        except Unreachable as error:
            LOG.info("%s %s: %s", request.method, console_url.shown(request.raw_path), error)
            reply = self._unreachable(service, error)
        return await respond(request, reply, last=last, more=more)

    def _admit(self, request: web.BaseRequest, handler: Handler, visitors: Visitors) -> str:
        """Count a request, and return the user whose token it has; empty if it has none that a site has signed.

        Raises:
            TooMany: the client has had enough.
        """
        token = request.headers.get("X-Auth-Token", "")
        user = self._callers.remembered(token)
        visitors.ask(handler.address, user)
        if not user and token and (user := self._callers.user(token)):
            handler.address.requests.give_back(1)
        if user:
            handler.recognise()
        return user

    def _note_sign_in(self, call: Call, answer: Answer, handler: Handler) -> None:
        """Let a sign-in that succeeds cost its address nothing, and one that is refused what it has cost Keystone."""
        if call.user or call.method != "POST" or call.service != "identity" or call.path.rstrip("/") != "/v3/auth/tokens":
            return
        if answer.status < 400:
            self._visitors.signed_in(handler.address, handler)
            handler.known = True
        elif answer.status in {401, 403}:
            self._visitors.refused(handler.address)

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
            raise Refused(400, "the Host header is no host")
        headers["X-Forwarded-Proto"] = "http"
        headers["X-Forwarded-Host"] = host
        headers["X-Forwarded-Prefix"] = f"{_scope_prefix(target)}/{target.service}"
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        headers[heads.REQUEST_ID] = request_id
        headers.popall(heads.SCOPE, None)
        strict = heads.strict(request.headers, target.strict or self._options.lists == "strict")
        call = Call(request.method, target.service, target.path, target.query, headers, None, request_id, user, strict)
        return await self._with_body(request, call, self._visitors, held)

    async def _with_body(self, request: web.BaseRequest, call: Call, visitors: Visitors, held: ExitStack) -> Call:
        """Read a request's body, or, if it is an image's data, have it arrive while it is sent on.

        Raises:
            Refused: it is too large, too slow, or one too many; or it may not be sent at all.
            Unreachable: Keystone does not say whether it may.
        """
        if is_image_data(call.service, call.path):
            if call.user:
                held.enter_context(visitors.transfer(call.user))
            if request.body_exists:
                await validate(self._gateway.sites, call.token, call.request_id)
                await _go_on(request)
                return replace(call, body=Upload(request.content))
        if not request.body_exists:
            return call
        limit = MAX_BODY if call.user else visitors.limits.stranger_body
        held.enter_context(visitors.body(_handler(request).address, check_size(request, limit)))
        await _go_on(request)
        body = await whole(request, limit, visitors.limits.body_s)
        if "Content-Length" in call.headers:
            call.headers["Content-Length"] = str(len(body))  # it may have been spelled in another way, such as 007
        return replace(call, body=body)

    async def _peer(self, request: web.Request, compute_site: str = "") -> web.StreamResponse:
        """Another gateway, or a compute site of this one, asks this site's own services."""
        with ExitStack() as held:
            return await self._of_peer(request, compute_site, held)

    async def _of_peer(self, request: web.Request, compute_site: str, held: ExitStack) -> web.StreamResponse:
        service, last = "", False
        try:
            target = parse(request.raw_path)
            service = target.service
            _check(request, target)
            headers = _headers_of_compute_site(request, service) if compute_site else heads.of_peer(request.headers)
            request_id = heads.request_id(headers.get(heads.REQUEST_ID))
            user = self._callers.user(headers.get("X-Auth-Token", ""))
            call = Call(request.method, service, target.path, target.query, headers, None, request_id, user)
            call = await self._with_body(request, call, self._peers, held)
            answer = await self._gateway.local(call)
            return await respond(request, answer, held=SMALL if is_image_data(service, call.path) else HELD)
        except Refused as refused:
            path = console_url.shown(request.raw_path)
            self._log.warning("refused from peer %s: %.40s %.200r: %s", request.remote, request.method, path, refused.message)
            reply = fault(service, refused.status, refused.message, self._options.site)
            last = True
        except web.RequestPayloadError as error:
            reply = fault(service, 400, f"the request's body is malformed: {error}", self._options.site)
            last = True
        except Unreachable as error:
            reply = fault(service, 503, str(error), self._options.site)
        return await respond(request, reply, last=last)

    async def _peer_console(self, request: web.Request) -> web.StreamResponse:
        return await self._consoles.of_peer(request, request[PEER])

    @web.middleware
    async def _check_peer(self, request: web.Request, handler: PeerHandler) -> web.StreamResponse:
        """Let through only who is a member now: also on a connection that is older than its revocation."""
        connection = _handler(request)
        connection.request_began()
        try:
            _check_version(request)
            fingerprint = _fingerprint(request)
            site = self._mesh.site_of_fingerprint(fingerprint) if fingerprint else None
            if site is not None:
                connection.recognise()
                request[PEER] = site
                if self.freshness is not None and request.path != FRESHNESS:
                    await self.freshness.follow(site, request.headers.get(heads.SEEN, ""))
                return await handler(request)
            if compute_site := self._compute_sites.name_of(fingerprint):
                connection.recognise()
                return await self._peer(request, compute_site)
            self._peers.ask(connection.address, "")
            if request.raw_path == JOIN and request.method == "POST":
                return await handler(request)
            why, status = "no member of this cloud", 403
        except Refused as refused:
            why, status = refused.message, refused.status
        finally:
            connection.request_ended()
        path = console_url.shown(request.raw_path)
        self._log.warning("refused from peer %s: %.40s %.200r: %s", request.remote, request.method, path, why)
        response = web.Response(status=status, text=f"{why}\n")
        response.force_close()
        return response

    def _is_member(self, host: str) -> bool:
        return any(member.host == host for member in self._mesh.members().values())


def _fingerprint(request: web.BaseRequest) -> str:
    """Return the SHA-256 of the certificate that a peer has shown, in hexadecimal; empty if it has shown none."""
    tls = request.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return hashlib.sha256(certificate).hexdigest() if certificate else ""


def _headers_of_compute_site(request: web.BaseRequest, service: str) -> CIMultiDict[str]:
    """Return what a compute site may say to a service, which is what a client may.

    Raises:
        Refused: nova-compute asks no such service.
    """
    if service not in OF_COMPUTE_SITES:
        raise Refused(403, "a compute site has nothing to ask there")
    return heads.of_client(request.headers)


def _scope_prefix(target: Target) -> str:
    """What links and the catalogue must begin with, so that a client stays in what its URL asks for: without escapes, or they break.

    Raises:
        ScopeError: the scope makes no sense.
    """
    scope = "" if target.scope is None else scopes.prefix_of(scopes.parse(target.scope))
    return f"{STRICT}{scope}" if target.strict else scope


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
    if peers is not None and (not peers.service or peers.scope is not None or peers.strict):
        raise Refused(404, "gateways ask for a service")
    _check_version(request)
    if request.method not in _METHODS:
        raise Refused(400, "there is no such method")
    if "Upgrade" in request.headers:
        raise Refused(400, "nothing else is spoken here")
    if len(request.headers.getall("Host", ())) > 1:
        raise Refused(400, "more than one Host header")


def _check_version(request: web.BaseRequest) -> None:
    if request.version not in {HttpVersion10, HttpVersion11}:
        raise Refused(400, "HTTP/1.0 or 1.1 is spoken here")


async def _expect(_request: web.Request) -> None:
    """Promise nothing yet: `_go_on` does, once the request may have a body."""


async def _go_on(request: web.BaseRequest) -> None:
    """Tell a client that waits for it that it may send the body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _handler(request: web.BaseRequest) -> Handler:
    assert isinstance(request.protocol, Handler), "not of a door"
    return request.protocol


def _explained(status: int) -> dict[str, str]:
    """Headers that say what a client that was refused may do."""
    return {"Retry-After": "1"} if status in {429, 503} else {"WWW-Authenticate": "Keystone"} if status == 401 else {}


async def _pong(_request: web.Request) -> web.Response:
    return web.Response(text="pong")
