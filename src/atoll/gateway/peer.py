"""Requests at the peer port: the name of the sending site, which its certificate proves, and the body."""

from __future__ import annotations

from aiohttp import web

from atoll.gateway.request.body import whole
from atoll.gateway.request.target import Refused

PEER: web.RequestKey[str] = web.RequestKey("peer", str)
"""Name of the site whose gateway sent the request."""


async def peer_body(request: web.Request, limit: int) -> bytes:
    """Read the whole body of another gateway's request.

    Args:
        request: the request.
        limit: the greatest size in bytes.

    Raises:
        web.HTTPRequestEntityTooLarge: the body is larger.
        web.HTTPRequestTimeout: the body did not arrive in time.
        web.HTTPBadRequest: the other gateway has closed the connection.
    """
    try:
        return await whole(request, limit)
    except Refused as refused:
        if refused.status == web.HTTPRequestEntityTooLarge.status_code:
            raise web.HTTPRequestEntityTooLarge(limit, request.content_length or limit + 1) from None
        kind = web.HTTPRequestTimeout if refused.status == web.HTTPRequestTimeout.status_code else web.HTTPBadRequest
        raise kind(text=refused.message) from None
