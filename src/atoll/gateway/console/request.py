"""What a request for a console must look like, and the answer to one that doesn't."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from atoll.gateway.console.url import token_of
from atoll.gateway.request.headers import valid_host
from atoll.gateway.request.target import Refused

WHY = "X-Atoll-Why"
"""The sentence of a refusal, for who doesn't see the body."""


def refusal(status: int, why: str, headers: Mapping[str, str]) -> web.Response:
    """The answer to what is refused.

    Args:
        status: HTTP status.
        why: one sentence for people.
        headers: more of them.
    """
    response = web.Response(status=status, text=f"{why}\n", headers={**headers, WHY: why})
    response.force_close()  # what follows is no HTTP, if the client expected a WebSocket
    return response


def check(request: web.BaseRequest) -> str:
    """Refuse what no client of a console asks for.

    Returns:
        This gateway, as the client calls it.
    """
    hosts = request.headers.getall("Host", ())
    if request.method not in {"GET", "HEAD"} or _has_body(request):
        raise Refused(400, "consoles and their pages are asked for with GET, and without a body")
    if len(hosts) != 1 or not valid_host(hosts[0]):
        raise Refused(400, "the Host header is no host")
    return hosts[0]


def token(request: web.BaseRequest, query: str) -> str:
    """Refuse what opens no WebSocket.

    Returns:
        The token.
    """
    if request.method != "GET" or request.headers.get("Upgrade", "").strip().lower() != "websocket":
        raise Refused(426, "this is a WebSocket: expected a client of these, such as `atoll console`")
    found = token_of(query)
    if found is None:
        raise Refused(403, "the URL has no token: ask for a new one (`openstack console url show`)")
    return found


def _has_body(request: web.BaseRequest) -> bool:
    # Who upgrades has none for the parser, whatever the headers say.
    return request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers
