"""The chunks of an image, with checksums, that its holder serves to other sites' gateways on the peer port.

Whether a user may see an image is asked of the holder's Glance with the user's token, before it is pulled. Here only gateways ask.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re

from aiohttp import web

from atoll.gateway.bring.asking import Asker
from atoll.gateway.bring.partial import CHUNK
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites

SLOTS = 8
"""Chunks that are in memory at a time; whoever asks for more waits."""

DIGEST = "Content-Digest"
"""RFC 9530."""

_PIECE = 256 << 10
_SLOWEST_S = 30.0
"""Seconds that a piece may take to be taken off by the other site."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Chunks:
    """Serves the images of this site.

    Args:
        sites: to ask this site's Glance.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._slots = asyncio.Semaphore(SLOTS)

    def attach(self, application: web.Application) -> None:
        """Add the handlers to the application of the peer port."""
        application.router.add_get("/atoll/images/{id}/chunks", self._chunk)

    async def _chunk(self, request: web.Request) -> web.StreamResponse:
        offset, length = _number(request, "offset"), _number(request, "length")
        if not 0 < length <= CHUNK:
            raise web.HTTPBadRequest(text=f"length is a number from 1 to {CHUNK}")
        async with self._slots:
            try:
                body = await self._read(request, offset, length)
            except Unreachable as error:
                raise web.HTTPServiceUnavailable(text=str(error)) from error
            digest = base64.b64encode((await asyncio.to_thread(hashlib.sha256, body)).digest()).decode()
            response = web.StreamResponse(headers={DIGEST: f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"})
            response.content_length = length
            await response.prepare(request)
            try:
                for start in range(0, length, _PIECE):
                    async with asyncio.timeout(_SLOWEST_S):
                        await response.write(body[start : start + _PIECE])
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                raise
        return response

    async def _read(self, request: web.Request, offset: int, length: int) -> memoryview:
        token = await self._sites.own_token("image")
        call = self._asker(request, token).call("GET", "image", f"/v2/images/{_identifier(request)}/file", token)
        call.headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        body = bytearray()
        async with self._sites.stream(self._sites.here, call) as answer:
            if answer.status != 206:
                raise web.HTTPNotFound(text=f"Glance answered {answer.status}")
            async for piece in answer.pieces():
                body += piece
                if len(body) > length:
                    break
        if len(body) != length:
            raise web.HTTPNotFound(text="the image is not that long")
        return memoryview(body)

    def _asker(self, request: web.Request, token: str) -> Asker:
        return Asker(self._sites, token, request_id(request.headers.get("X-Openstack-Request-Id")))


def _identifier(request: web.Request) -> str:
    identifier = request.match_info["id"]
    if not _ID.fullmatch(identifier):
        raise web.HTTPNotFound
    return identifier


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise web.HTTPBadRequest(text=f"{name} is a number")
    return int(text)
