"""Asks the services of this site, and the gateways of the others, over connections that are kept."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from atoll.gateway.admin import OwnToken
from atoll.gateway.door.limits import Busy, Limits, Turns
from atoll.gateway.options import Options
from atoll.gateway.request.body import Upload
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID, HOP, REQUEST_ID, SEEN, end_to_end
from atoll.gateway.request.target import Refused
from atoll.identifiers import GATEWAY_SERVICES
from atoll.mesh.members import Member
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

T = TypeVar("T")

MAX_REPLY = 64 << 20
"""Bytes of an answer that is held in memory."""

CONNECT_S = 1.5
PATIENCE_S = 0.9
"""A site that has said nothing for so long is asked whether it is there at all, which may take as long again: a request to a site that is
cut off fails within two seconds, while one that takes long at a site that is there may take long."""

IDLE_S = 10.0
"""An answer of another site that has begun, and of which nothing more comes for so long, has broken off."""

UNDELIVERED_S = 3.0
"""What another site's kernel has not acknowledged for so long is given up; `pending.UNDELIVERED_S` must not be less."""

BREAK_S = 1.0
"""After a failure, a site is not tried again for so long."""

_GONE = frozenset(("left", "revoked"))
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_NO_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Upstream:
    """An answer whose head has arrived. It must be read or closed."""

    def __init__(
        self, response: aiohttp.ClientResponse, site: str, idle_s: float | None = None, ended: Callable[[], None] | None = None
    ) -> None:
        self._response = response
        self._ended = ended
        self._held = b""
        self._idle_s = idle_s
        self.status = response.status
        self.headers = end_to_end(response.headers.items(), response.headers.get("Connection", ""))
        self.site = site
        self.length = response.content_length

    async def read(self) -> Reply:
        """All of it.

        Raises:
            Unreachable: it broke off, or is too large.
        """
        body = bytearray()
        try:
            while piece := await self._piece():
                body += piece
                if len(body) > MAX_REPLY:
                    self.close()
                    raise Unreachable(self.site, f"its answer is larger than {MAX_REPLY} bytes")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.close()
            raise Unreachable(self.site, f"its answer broke off: {error or type(error).__name__}") from error
        self.headers.popall("Content-Length", None)
        return Reply(self.status, self.headers, bytes(body), self.site)

    async def hold(self, limit: int) -> Reply | Upstream:
        """Take its body, or as much of it as is to be held in memory.

        Args:
            limit: bytes.

        Returns:
            The answer whole, or this one, whose pieces still are all of it.

        Raises:
            Unreachable: it broke off.
        """
        body = bytearray()
        try:
            async for piece in self.pieces():
                body += piece
                if len(body) > limit:
                    self._held = bytes(body)
                    return self
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.close()
            raise Unreachable(self.site, f"its answer broke off: {error or type(error).__name__}") from error
        self.headers.popall("Content-Length", None)
        return Reply(self.status, self.headers, bytes(body), self.site)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its body, as it arrives."""
        if self._held:
            held, self._held = self._held, b""
            yield held
        while piece := await self._piece():
            yield piece

    async def _piece(self) -> bytes:
        if self._idle_s is None:
            piece = await self._response.content.readany()
        else:
            async with asyncio.timeout(self._idle_s):
                piece = await self._response.content.readany()
        if not piece:
            self._end()
        return piece

    def close(self) -> None:
        """Wait for no more of it."""
        self._response.close()
        self._end()

    def _end(self) -> None:
        """End the turn at the service."""
        if self._ended is not None:
            self._ended()
            self._ended = None

    def __del__(self) -> None:
        """End the turn of an answer that was dropped."""
        self._end()


class _Peer:
    """The way to another site's gateway, which must show the certificate that the mesh knows it by."""

    def __init__(self, name: str, member: Member, tls: ssl.SSLContext, loop_time: Any) -> None:
        self.name = name
        self.address = (member.host, member.peer_port, member.fingerprint)
        host = f"[{member.host}]" if ":" in member.host else member.host
        self.url = f"https://{host}:{member.peer_port}"
        self._time = loop_time
        self._failed = -BREAK_S
        pinned = aiohttp.TCPConnector(
            ssl=aiohttp.Fingerprint(bytes.fromhex(member.fingerprint)), limit=0, keepalive_timeout=30, socket_factory=_socket
        )
        self.tls = tls
        self.session = _session(pinned, _no_redirected_socket)

    @property
    def broken(self) -> bool:
        return bool(self._time() - self._failed < BREAK_S)

    def fail(self) -> None:
        self._failed = self._time()

    async def answers(self, within_s: float) -> bool:
        """Whether the gateway is there."""
        try:
            timeout = aiohttp.ClientTimeout(total=within_s)
            async with self.session.get(URL(f"{self.url}/atoll/ping", encoded=True), ssl=self.tls, timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


def _session(connector: aiohttp.TCPConnector, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """A session that sends what writes once.

    aiohttp sends PUT and DELETE again when a connection that was kept breaks. The service may have done it before it died: the second
    answer would be that there is no such thing, of what the first has deleted. Whoever asked is told that it is not known (5xx), and may
    ask again. Replaced: `IDEMPOTENT_METHODS` of aiohttp/client.py.
    """
    aiohttp.client.IDEMPOTENT_METHODS = _READS
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_NO_AUTOMATIC,
        trust_env=False,
        middlewares=middlewares,
    )


async def _no_redirected_socket(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A site may not send this one to somewhere else; `ws_connect` can't be told so."""
    response = await handler(request)
    if 300 <= response.status < 400 and "Upgrade" in request.headers:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info, response.history, status=response.status, message="redirected", headers=response.headers
        )
    return response


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that gives up what is not acknowledged in time.

    Else the kernel goes on to send, for minutes and after the connection is closed, what a cut has held up: an update would arrive after
    later ones.
    """
    family, kind, protocol, _name, _address = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNDELIVERED_S * 1000))
    return made


class Sites:
    """All sites of the cloud, as the gateway of one of them sees them.

    Args:
        options: of this gateway.
        mesh: who there is, and who can be reached.
        limits: says how many requests a service answers at once.

    Attributes:
        on_write: told of each write that one of this site's services has carried out.
        seen: returns the digest of what this site knows of identity, for the gateways that it asks; `None`: they are told nothing.
    """

    def __init__(self, options: Options, mesh: Mesh, limits: Limits = Limits()) -> None:  # noqa: B008 - it can't be changed
        self.on_write: Callable[[Call], None] | None = None
        self.seen: Callable[[], str] | None = None
        self.here = options.site
        self._services = options.services
        self._tls_directory = options.tls
        self._mesh = mesh
        self._peers: dict[str, _Peer] = {}
        self._local: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._own = {service: OwnToken(self, options, service) for service in GATEWAY_SERVICES}
        self._turns = Turns(limits)

    async def start(self) -> None:
        """Open what requests are sent over."""
        self._local = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=20))
        self._tls = ssl.create_default_context(cafile=str(self._tls_directory / "ca.pem"))
        self._tls.check_hostname = False  # each peer's very certificate is known
        self._tls.load_cert_chain(self._tls_directory / "cert.pem", self._tls_directory / "key.pem")

    async def stop(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            await peer.session.close()
        if self._local is not None:
            await self._local.close()

    def others(self) -> list[str]:
        """All sites but this one that belong to the cloud, whether they can be reached or not."""
        return sorted(name for name, member in self._mesh.members().items() if name != self.here and member.state not in _GONE)

    def everywhere(self) -> list[str]:
        """All sites of the cloud, this one first."""
        return [self.here, *self.others()]

    def reachable(self) -> list[str]:
        """Other sites, nearest first."""
        return self._mesh.reachable()

    def near_first(self, sites: list[str]) -> list[str]:
        """Sites by their round trip; this one is the nearest."""
        return sorted(sites, key=lambda site: (site != self.here, self._mesh.rtt_ms(site) or 0.0, site))

    def rtt_ms(self, site: str) -> float:
        """The round trip to a site; 0 if it is not known."""
        return 0.0 if site == self.here else self._mesh.rtt_ms(site) or 0.0

    async def own_token(self, service: str) -> str:
        """Return a token of the gateway's account for one service of this site, for what no user's token can do. No other site takes it.

        Args:
            service: compute, image or network.

        Raises:
            Unreachable: Keystone gives none.
        """
        return await self._own[service].get()

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        """Ask a site, and hold its answer in memory.

        Raises:
            Unreachable: there is no answer, or not in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await (await self.open(site, call)).read()
        except TimeoutError as error:
            raise Unreachable(site, f"no answer in {timeout_s:.1f} s") from error

    @asynccontextmanager
    async def stream(self, site: str, call: Call) -> AsyncIterator[Upstream]:
        """Ask a site, and read its answer as it arrives.

        Raises:
            Unreachable: there is no answer.
        """
        upstream = await self.open(site, call)
        try:
            yield upstream
        finally:
            upstream.close()

    async def open(self, site: str, call: Call) -> Upstream:
        """Ask a site; returns when the head of its answer is there.

        Raises:
            Unreachable: there is no answer.
        """
        if site == self.here:
            return await self._ask_here(call)
        peer = self._peer(site)
        headers = CIMultiDict(call.headers)
        headers[HOP] = "1"
        if self.seen is not None:
            headers[SEEN] = self.seen()
        headers[REQUEST_ID] = call.request_id
        request = self._request(peer.session, f"{peer.url}/{call.service}{call.target}", call, headers, peer.tls)
        return Upstream(await self._patiently(peer, request, call.body), site, IDLE_S)

    async def open_socket(self, site: str, path: str, headers: CIMultiDict[str], max_message: int) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket to the gateway of another site.

        Args:
            site: which.
            path: path and query at its peer port.
            headers: to be sent.
            max_message: bytes of one message at most.

        Raises:
            Unreachable: there is no answer.
            aiohttp.WSServerHandshakeError: the answer is another one.
        """
        peer = self._peer(site)
        url = URL(f"{peer.url}{path}", encoded=True)
        return await self._patiently(peer, peer.session.ws_connect(url, headers=headers, ssl=peer.tls, max_msg_size=max_message))

    async def _patiently(self, peer: _Peer, request: Coroutine[Any, Any, T], body: object = None) -> T:
        try:
            # A new connection takes three round trips.
            answer = await _while_it_lives(peer, request, max(PATIENCE_S, 5 * self.rtt_ms(peer.name) / 1000))
        except aiohttp.WSServerHandshakeError:
            self._mesh.report(peer.name, True)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _check_source(body)
            peer.fail()
            self._mesh.report(peer.name, False)
            sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            raise Unreachable(peer.name, str(error) or type(error).__name__, sent=sent) from error
        self._mesh.report(peer.name, True)
        return answer

    async def _ask_here(self, call: Call) -> Upstream:
        assert self._local is not None, "not started"
        if call.service not in self._services:
            raise Refused(404, f"{self.here} has no service /{call.service}")
        headers = call.headers
        if REQUEST_ID not in headers:
            headers = CIMultiDict(headers)
            headers[REQUEST_ID] = call.request_id
        if GIVEN_ID in headers:
            # The user's own request, in whose name a gateway has chosen an id: this site's services believe that of its gateway alone.
            headers = CIMultiDict(headers)
            del headers[GIVEN_ID]
            headers["X-Service-Token"] = await self.own_token(call.service)
        ended = await self._turn(call)
        try:
            answer = Upstream(
                await self._request(self._local, self._services[call.service] + call.target, call, headers), self.here, ended=ended
            )
        except BaseException as error:
            if ended is not None:
                ended()
            if not isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
                raise
            _check_source(call.body)
            raise Unreachable(self.here, f"its own {call.service} service does not answer: {error or type(error).__name__}") from error
        if self.on_write is not None and call.method not in _READS and answer.status < 400:
            self.on_write(call)
        return answer

    async def _turn(self, call: Call) -> Callable[[], None] | None:
        """Wait until a service may answer one more request of a user; what the gateway asks by itself waits for nothing.

        Raises:
            Refused: that takes too long.
        """
        if call.user is None:
            return None
        try:
            return await self._turns.take(call.service, call.user)
        except Busy:
            raise Refused(503, f"{call.service} answers as many requests of one user as it may: try again in a moment") from None

    async def _request(
        self, session: aiohttp.ClientSession, url: str, call: Call, headers: CIMultiDict[str], tls: ssl.SSLContext | None = None
    ) -> aiohttp.ClientResponse:
        return await session.request(
            call.method,
            URL(url, encoded=True),
            headers=headers,
            data=call.body,
            allow_redirects=False,
            ssl=tls or True,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )

    def _peer(self, site: str) -> _Peer:
        member = self._mesh.members().get(site)
        if member is None or member.state in _GONE:
            raise Unreachable(site, "it is not a member of the cloud", sent=False)
        if member.state == "unreachable":
            raise Unreachable(site, "the mesh can't reach it", sent=False)
        peer = self._peers.get(site)
        if peer is None or peer.address != (member.host, member.peer_port, member.fingerprint):
            assert self._tls is not None, "not started"
            if peer is not None:
                asyncio.ensure_future(peer.session.close())  # noqa: RUF006 - the loop ends later than it
            peer = self._peers[site] = _Peer(site, member, self._tls, time.monotonic)
        if peer.broken:
            raise Unreachable(site, "it did not answer a moment ago", sent=False)
        return peer


def _check_source(body: object) -> None:
    """Blame the client for a request that failed because its body broke off: it says nothing about the site.

    Raises:
        Refused: it broke off.
    """
    if isinstance(body, Upload) and body.failure:
        raise Refused(400, body.failure)


async def _while_it_lives(peer: _Peer, request: Coroutine[Any, Any, T], patience_s: float) -> T:
    """Wait for a site's answer as long as the site is there."""
    task = asyncio.ensure_future(request)
    try:
        while not (await asyncio.wait({task}, timeout=patience_s))[0]:
            if not await peer.answers(patience_s) and not task.done():
                raise TimeoutError("it has stopped answering")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
                await task
