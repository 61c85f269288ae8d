"""Checks requests for consoles, and answers those that are refused."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from atoll.gateway.console.url import token_of
from atoll.gateway.request.headers import valid_host
from atoll.gateway.request.target import Refused

WHY = "X-Atoll-Why"
"""Header with the reason of a refusal, for clients that do not show the body."""


def refusal(status: int, why: str, headers: Mapping[str, str]) -> web.Response:
    """Return the answer to a refused request.

    Args:
        status: the HTTP status.
        why: the reason, as one sentence.
        headers: additional headers.
    """
    response = web.Response(status=status, text=f"{why}\n", headers={**headers, WHY: why})
    response.force_close()  # a client that expected a WebSocket may send bytes that are not HTTP
    return response


def check(request: web.BaseRequest) -> str:
    """Check the method, the body and the `Host` header of a request.

    Returns:
        The name or address and port by which the client reaches this gateway.

    Raises:
        Refused: no client of a console sends such a request.
    """
    hosts = request.headers.getall("Host", ())
    if request.method not in {"GET", "HEAD"} or _has_body(request):
        raise Refused(400, "consoles and their pages support GET and HEAD, without a body")
    if len(hosts) != 1 or not valid_host(hosts[0]):
        raise Refused(400, "the Host header is not exactly one host name or address with an optional port")
    return hosts[0]


def token(request: web.BaseRequest, query: str) -> str:
    """Return the console token of a request that opens a WebSocket.

    Raises:
        Refused: the request opens no WebSocket, or has no token.
    """
    if request.method != "GET" or request.headers.get("Upgrade", "").strip().lower() != "websocket":
        raise Refused(426, "this path is a WebSocket: use a WebSocket client, such as `atoll console`")
    found = token_of(query)
    if found is None:
        raise Refused(403, "the URL has no valid token: request a new URL with `openstack console url show`")
    return found


def _has_body(request: web.BaseRequest) -> bool:
    # For an upgrade, aiohttp's parser reports no body, whatever the headers say.
    return request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers
