"""Sends answers on to clients: whole where they are small, else as they arrive, and at no less than a least rate."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web

from atoll.gateway.door.door import Handler
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply
from atoll.gateway.sites import Upstream

SMALL = 64 << 10
"""Answers up to so many bytes are sent in one piece."""

HELD = 4 << 20
"""Bytes of an answer that are taken from a service at once, so that a client that reads slowly holds none of its threads. An image's data
are not held."""

LEAST_BYTES_S = 16 << 10
"""Bytes a second that a client reads of an answer that is sent in one piece; see `door.WRITE_S` besides."""


async def respond(
    request: web.BaseRequest, answer: Reply | Upstream, *, held: int = SMALL, last: bool = False, more: dict[str, str] | None = None
) -> web.StreamResponse:
    """Send an answer on: in one piece if it is small, else as it arrives.

    Args:
        request: what is answered.
        answer: the answer.
        held: bytes that are taken from the service before anything is sent.
        last: close the connection then: what follows a request that was refused is not worth reading.
        more: headers besides.
    """
    if not isinstance(answer, Reply) and request.method != "HEAD":
        if answer.length is not None and answer.length <= SMALL:
            answer = await answer.read()
        elif held > SMALL:
            answer = await answer.hold(held)
    answer.headers.setdefault(heads.SITE, answer.site)
    if more:
        answer.headers.update(more)
    handler = request.protocol if isinstance(request.protocol, Handler) else None
    if isinstance(answer, Reply):
        response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        if last:
            response.force_close()
        if handler is not None:
            handler.writes(len(answer.body) / LEAST_BYTES_S)
        with suppress(ConnectionResetError):  # whoever asked has hung up
            await response.prepare(request)
            await response.write_eof()
        return response
    return await _stream(request, answer, handler)


async def _stream(request: web.BaseRequest, answer: Upstream, handler: Handler | None) -> web.StreamResponse:
    streamed = web.StreamResponse(status=answer.status, headers=answer.headers)
    try:
        await streamed.prepare(request)
        async for piece in answer.pieces():
            if handler is not None:
                handler.writes()
            await streamed.write(piece)
            if handler is not None:
                handler.wrote()
        await streamed.write_eof()
    except BaseException:
        # What is cut short must not look whole.
        if request.transport is not None:
            request.transport.close()
        raise
    finally:
        answer.close()
    return streamed
