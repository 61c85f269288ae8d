"""Sends requests to this site's services and to the gateways of other sites, over connections that are kept open."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from atoll.gateway import tracing
from atoll.gateway.account_token import AccountToken
from atoll.gateway.connections import READS, PeerConnections, session
from atoll.gateway.door.limits import CLIENT_LIMITS, BusyError, Limits, Turns
from atoll.gateway.groups import Groups
from atoll.gateway.options import Options
from atoll.gateway.request.body import Upload
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID, HOP, REQUEST_ID, SEEN, end_to_end
from atoll.gateway.request.target import Refused
from atoll.identifiers import GATEWAY_SERVICES
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

T = TypeVar("T")

MAX_REPLY = 64 << 20
"""Greatest size, in bytes, of an answer that is held in memory."""

CONNECT_S = 1.5
"""Seconds to open a TCP connection."""

PATIENCE_S = 0.9
"""Seconds without an answer after which a site is pinged, and seconds to wait for the ping's answer.

A request to a site that is cut off fails within two seconds, while a request that takes long at a site that can be reached may go on."""

IDLE_S = 10.0
"""Seconds without a further piece after which another site's answer is considered interrupted."""

_FORMER = frozenset(("left", "revoked"))
"""States of sites that are no longer members."""


class StreamedReply:
    """An answer whose head has arrived, and whose body has not. It must be read or closed.

    Args:
        response: the answer of aiohttp's client.
        site: the site that answers.
        idle_s: seconds without a further piece after which the answer is considered interrupted; `None` sets no limit.
        ended: called once, when the body has been read or the answer was closed or dropped.

    Attributes:
        status: the HTTP status.
        headers: the headers, without those that belong to one connection.
        site: the site that answers.
        length: bytes of the body; `None` if the head does not contain it.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, site: str, idle_s: float | None = None, ended: Callable[[], None] | None = None
    ) -> None:
        self._response = response
        self._ended = ended
        self._held = b""
        self._received = 0
        self._idle_s = idle_s
        self.status = response.status
        self.headers = end_to_end(response.headers.items(), response.headers.get("Connection", ""))
        self.site = site
        self.length = response.content_length

    async def read(self) -> Reply:
        """Return the answer with its whole body.

        Raises:
            Unreachable: the answer broke off, or is larger than `MAX_REPLY`.
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

    async def hold(self, limit: int) -> Reply | StreamedReply:
        """Read the body, or as much of it as may be held in memory.

        Args:
            limit: the greatest number of bytes to hold.

        Returns:
            The answer with its whole body; or this object, whose `pieces` still yield all of the body.

        Raises:
            Unreachable: the answer broke off.
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
        """Yield the pieces of the body as they arrive."""
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
        self._received += len(piece)
        if not piece:
            self._end()
        return piece

    def close(self) -> None:
        """Discard the rest of the answer."""
        self._response.close()
        self._end()

    def _end(self) -> None:
        """End the turn at the service and the span of the request."""
        tracing.ended(self._response, self._received)
        if self._ended is not None:
            self._ended()
            self._ended = None

    def __del__(self) -> None:
        """End the turn at the service of an answer that was dropped."""
        self._end()


class Sites:
    """All sites of the cloud, as seen by the gateway of one of them.

    Args:
        options: the gateway's settings.
        mesh: the members of the cloud, and which of them can be reached.
        identity_digest: returns the digest of this site's identity data, which other gateways get with each request; empty for none.
        limits: the number of requests of one user that a service answers at the same time.
    """

    def __init__(
        self, options: Options, mesh: Mesh, identity_digest: Callable[[], str] = lambda: "", limits: Limits = CLIENT_LIMITS
    ) -> None:
        self.here = options.site
        self.groups = Groups(options.site, options.groups)
        self._services = options.services
        self._tls_directory = options.tls
        self._mesh = mesh
        self._identity_digest = identity_digest
        self._write_listeners: list[Callable[[Call], None]] = []
        self._peers: dict[str, PeerConnections] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._local: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._own = {service: AccountToken(self, options, service) for service in GATEWAY_SERVICES}
        self._turns = Turns(limits)

    async def start(self) -> None:
        """Open the session for this site's services, and load this site's certificate."""
        self._local = session(aiohttp.TCPConnector(limit=0, keepalive_timeout=20))
        self._tls = ssl.create_default_context(cafile=str(self._tls_directory / "ca.pem"))
        self._tls.check_hostname = False  # the fingerprint of each peer's certificate is checked instead
        self._tls.load_cert_chain(self._tls_directory / "cert.pem", self._tls_directory / "key.pem")

    async def stop(self) -> None:
        """Close the connections to all services and gateways."""
        for peer in self._peers.values():
            await peer.session.close()
        if self._local is not None:
            await self._local.close()

    def on_write(self, listener: Callable[[Call], None]) -> None:
        """Register a function that is called after each request by which one of this site's services has changed a resource."""
        self._write_listeners.append(listener)

    def others(self, service: str = "") -> list[str]:
        """Return all other members of the cloud, reachable or not.

        Args:
            service: leave out the sites that have the same resources of this service as another site in the list, or as this site.
        """
        names = sorted(name for name, member in self._mesh.members().items() if name != self.here and member.state not in _FORMER)
        return self.groups.other_holders(names, service, self._mesh.reachable())

    def everywhere(self, service: str = "") -> list[str]:
        """Return all members of the cloud, this site first; see `others`."""
        return [self.here, *self.others(service)]

    def reachable(self, service: str = "") -> list[str]:
        """Return the other sites that can be reached, the nearest first; see `others`."""
        near = self._mesh.reachable()
        return self.groups.other_holders(near, service, near)

    def holders(self, sites: Iterable[str], service: str) -> list[str]:
        """Return the sites that answer for the given ones, each once: of several that share a database, one answers for all."""
        return self.groups.holders(sites, service, self._mesh.reachable())

    def near_first(self, sites: list[str]) -> list[str]:
        """Return sites in the order of their round trips, this site first; an unknown round trip is taken as 0 ms."""
        return sorted(sites, key=lambda site: (site != self.here, self._mesh.rtt_ms(site) or 0.0, site))

    def rtt_ms(self, site: str) -> float:
        """Return the round trip to a site in milliseconds; 0 if it is unknown."""
        return 0.0 if site == self.here else self._mesh.rtt_ms(site) or 0.0

    async def own_token(self, service: str) -> str:
        """Return a token of the gateway's account for one service of this site, which no other site accepts.

        Args:
            service: compute, image or network.

        Raises:
            Unreachable: Keystone issues no token.
        """
        return await self._own[service].get()

    async def send(self, site: str, call: Call, timeout_s: float = 30.0, *, insist: bool = False) -> Reply:
        """Send a request to a site, and return the whole answer.

        Args:
            site: this site or another one.
            call: the request.
            timeout_s: seconds until the answer must be complete.
            insist: see `open`.

        Raises:
            Unreachable: no complete answer arrived in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await (await self.open(site, call, insist=insist)).read()
        except TimeoutError as error:
            raise Unreachable(site, f"no answer in {timeout_s:.1f} s") from error

    @asynccontextmanager
    async def stream(self, site: str, call: Call) -> AsyncIterator[StreamedReply]:
        """Send a request to a site, and yield the answer, which is closed at the end of the context.

        Raises:
            Unreachable: there is no answer.
        """
        reply = await self.open(site, call)
        try:
            yield reply
        finally:
            reply.close()

    async def open(self, site: str, call: Call, *, insist: bool = False) -> StreamedReply:
        """Send a request to a site, and return when the head of the answer has arrived.

        Args:
            site: this site or another one.
            call: the request.
            insist: send it even if the mesh can't reach the site.

        Raises:
            Unreachable: there is no answer.
        """
        if site == self.here:
            return await self._open_here(call)
        peer = self._peer(site, insist=insist)
        headers = CIMultiDict(call.headers)
        headers[HOP] = "1"
        if digest := self._identity_digest():
            headers[SEEN] = digest
        headers[REQUEST_ID] = call.request_id
        request = self._request(site, f"{peer.url}/{call.service}{call.target}", call, headers, peer)
        return StreamedReply(await self._while_reachable(peer, request, call.body), site, IDLE_S)

    async def open_socket(self, site: str, path: str, headers: CIMultiDict[str], max_message: int) -> aiohttp.ClientWebSocketResponse:
        """Return a new WebSocket to the gateway of another site.

        Args:
            site: the other site.
            path: the path and query at its peer port.
            headers: the headers of the handshake.
            max_message: the greatest size of one message in bytes.

        Raises:
            Unreachable: there is no answer.
            aiohttp.WSServerHandshakeError: the gateway refuses the handshake.
        """
        peer = self._peer(site)
        url = URL(f"{peer.url}{path}", encoded=True)
        return await self._while_reachable(peer, peer.session.ws_connect(url, headers=headers, ssl=peer.tls, max_msg_size=max_message))

    async def _while_reachable(self, peer: PeerConnections, request: Coroutine[Any, Any, T], body: object = None) -> T:
        """Wait for a peer's answer as long as it answers pings, and report to the mesh whether it answered.

        Raises:
            Unreachable: the peer stopped answering, or the connection failed.
            Refused: the body of the client's request broke off.
            aiohttp.WSServerHandshakeError: the peer refused a WebSocket.
        """
        try:
            # A new connection takes three round trips.
            answer = await _while_alive(peer, request, max(PATIENCE_S, 5 * self.rtt_ms(peer.name) / 1000))
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

    async def _open_here(self, call: Call) -> StreamedReply:
        if call.service not in self._services:
            raise Refused(404, f"site {self.here} has no service /{call.service}")
        headers = call.headers
        if REQUEST_ID not in headers:
            headers = CIMultiDict(headers)
            headers[REQUEST_ID] = call.request_id
        if GIVEN_ID in headers:
            # The user's own request, for which a gateway has chosen an id: a service accepts the id only with its own gateway's token.
            headers = CIMultiDict(headers)
            del headers[GIVEN_ID]
            headers["X-Service-Token"] = await self.own_token(call.service)
        ended = await self._turn(call)
        try:
            url = self._services[call.service] + call.target
            answer = StreamedReply(await self._request(self.here, url, call, headers), self.here, ended=ended)
        except BaseException as error:
            if ended is not None:
                ended()
            if not isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
                raise
            _check_source(call.body)
            raise Unreachable(self.here, f"its own {call.service} service does not answer: {error or type(error).__name__}") from error
        if call.method not in READS and answer.status < 400:
            for listener in self._write_listeners:
                listener(call)
        return answer

    async def _turn(self, call: Call) -> Callable[[], None] | None:
        """Wait until a service may answer one more request of a user; the gateway's own requests need no turn.

        Raises:
            Refused: the wait takes too long.
        """
        if call.user is None:
            return None
        try:
            return await self._turns.take(call.service, call.user)
        except BusyError:
            raise Refused(503, f"{call.service} already answers as many requests of this user as it may: try again in a moment") from None

    async def _request(
        self, site: str, url: str, call: Call, headers: CIMultiDict[str], peer: PeerConnections | None = None
    ) -> aiohttp.ClientResponse:
        client = self._local if peer is None else peer.session
        assert client is not None, "not started"

        async def ask(sent: CIMultiDict[str]) -> aiohttp.ClientResponse:
            return await client.request(
                call.method,
                URL(url, encoded=True),
                headers=sent,
                data=call.body,
                allow_redirects=False,
                ssl=True if peer is None else peer.tls,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            )

        return await tracing.asked(site, call, headers, ask)

    def _peer(self, site: str, *, insist: bool = False) -> PeerConnections:
        member = self._mesh.members().get(site)
        if member is None or member.state in _FORMER:
            raise Unreachable(site, "it is not a member of the cloud", sent=False)
        if member.state == "unreachable" and not insist:
            raise Unreachable(site, "the mesh can't reach it", sent=False)
        peer = self._peers.get(site)
        if peer is None or peer.address != (member.host, member.peer_port, member.fingerprint):
            assert self._tls is not None, "not started"
            if peer is not None:
                closing = asyncio.ensure_future(peer.session.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            peer = self._peers[site] = PeerConnections(site, member, self._tls)
        if peer.broken:
            raise Unreachable(site, "it did not answer a moment ago", sent=False)
        return peer


def _check_source(body: object) -> None:
    """Raise an error that blames the client, not the site, if a request failed because its body broke off.

    Raises:
        Refused: the body broke off.
    """
    if isinstance(body, Upload) and body.failure:
        raise Refused(400, body.failure)


async def _while_alive(peer: PeerConnections, request: Coroutine[Any, Any, T], patience_s: float) -> T:
    """Wait for a peer's answer, and ping the peer every `patience_s` seconds.

    Raises:
        TimeoutError: the peer does not answer a ping.
    """
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
