"""Serves the data of this site's images to other sites' gateways on the peer port, in chunks with checksums.

Before a gateway pulls an image, it asks the holder's Glance with the user's token whether the user may see it. Only gateways may request
chunks.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re

from aiohttp import web

from atoll.gateway.bring.partial_file import CHUNK
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

SLOTS = 8
"""Greatest number of chunks in memory at a time; further requests wait."""

DIGEST = "Content-Digest"
"""Header with the checksum of a chunk (RFC 9530)."""

_PIECE = 256 << 10
_SLOWEST_S = 30.0
"""Seconds within which the other site must accept a piece of a chunk."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ChunkServer:
    """The handler that serves chunks of this site's images.

    Args:
        sites: sends requests to this site's Glance.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._slots = asyncio.Semaphore(SLOTS)

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_get("/atoll/images/{id}/chunks", self._chunk)

    async def _chunk(self, request: web.Request) -> web.StreamResponse:
        offset, length = _number(request, "offset"), _number(request, "length")
        if not 0 < length <= CHUNK:
            raise web.HTTPBadRequest(text=f"expected a length in bytes from 1 to {CHUNK}")
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
            except ConnectionError as error:  # the other site no longer reads this answer, and asks for the chunk again
                LOG.info("the other site did not read a chunk of image %s to its end: %s", request.match_info["id"], error)
        return response

    async def _read(self, request: web.Request, offset: int, length: int) -> memoryview:
        token = await self._sites.own_token("image")
        call = self._client(request, token).call("GET", "image", f"/v2/images/{_identifier(request)}/file", token)
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
            raise web.HTTPNotFound(text="the image ends before this chunk does")
        return memoryview(body)

    def _client(self, request: web.Request, token: str) -> ServiceClient:
        return ServiceClient(self._sites, token, request_id(request.headers.get("X-Openstack-Request-Id")))


def _identifier(request: web.Request) -> str:
    identifier = request.match_info["id"]
    if not _ID.fullmatch(identifier):
        raise web.HTTPNotFound
    return identifier


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise web.HTTPBadRequest(text=f"expected {name} as a number of bytes")
    return int(text)
