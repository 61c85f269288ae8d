"""The HTTP connections of a gateway to this site's services and to the gateways of other sites."""

from __future__ import annotations

import socket
import ssl
import time

import aiohttp
from yarl import URL

from atoll.mesh.members import Member

UNDELIVERED_S = 3.0
"""Seconds without an acknowledgement of sent data, after which the kernel closes a connection to another site.

`pending.UNDELIVERED_S` must not be less."""

BREAK_S = 1.0
"""Seconds after a failure during which no request is sent to a site."""

READS = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing, which aiohttp may send twice."""

_NO_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that aiohttp would add by itself."""


class PeerConnections:
    """The connections to another site's gateway, which must present the certificate that the mesh has on record for it.

    Args:
        name: the site's name.
        member: the site's addresses and the fingerprint of its certificate.
        tls: the settings of TLS, with this site's certificate.
    """

    def __init__(self, name: str, member: Member, tls: ssl.SSLContext) -> None:
        self.name = name
        self.address = (member.host, member.peer_port, member.fingerprint)
        host = f"[{member.host}]" if ":" in member.host else member.host
        self.url = f"https://{host}:{member.peer_port}"
        self._failed = -BREAK_S
        pinned = aiohttp.TCPConnector(
            ssl=aiohttp.Fingerprint(bytes.fromhex(member.fingerprint)), limit=0, keepalive_timeout=30, socket_factory=_socket
        )
        self.tls = tls
        self.session = session(pinned, _no_redirected_socket)

    @property
    def broken(self) -> bool:
        """True if a request failed less than `BREAK_S` ago."""
        return time.monotonic() - self._failed < BREAK_S

    def fail(self) -> None:
        """Record that a request has failed."""
        self._failed = time.monotonic()

    async def answers(self, within_s: float) -> bool:
        """Return whether the gateway answers a ping within some seconds."""
        try:
            timeout = aiohttp.ClientTimeout(total=within_s)
            async with self.session.get(URL(f"{self.url}/atoll/ping", encoded=True), ssl=self.tls, timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


def session(connector: aiohttp.TCPConnector, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """Return a client session that never repeats a request that writes.

    aiohttp sends PUT and DELETE again when a connection that was kept open breaks. The service may have carried out the first request
    before it died, and would answer the second DELETE with 404. So the caller gets an error (5xx) and decides whether to ask again.
    The function replaces `IDEMPOTENT_METHODS` of aiohttp/client.py.
    """
    aiohttp.client.IDEMPOTENT_METHODS = READS
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_NO_AUTOMATIC,
        trust_env=False,
        middlewares=middlewares,
    )


async def _no_redirected_socket(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Refuse redirects of WebSocket handshakes, so that a site can't send this gateway elsewhere. `ws_connect` has no option for that."""
    response = await handler(request)
    if 300 <= response.status < 400 and "Upgrade" in request.headers:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info, response.history, status=response.status, message="redirected", headers=response.headers
        )
    return response


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that is closed if sent data is not acknowledged in time.

    Otherwise the kernel would keep sending for minutes, even after the connection is closed, and an update could arrive after later
    updates.
    """
    family, kind, protocol, _name, _address = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNDELIVERED_S * 1000))
    return made
