"""Sends answers to clients, at a minimum rate: small answers in one piece, large ones as they arrive from the service."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web

from atoll.gateway.door.listener import Handler
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply
from atoll.gateway.sites import StreamedReply

SMALL = 64 << 10
"""Greatest size, in bytes, of an answer that is sent in one piece."""

HELD = 4 << 20
"""Bytes of an answer that the gateway reads from a service without waiting for the client, so that a slow client occupies none of the
service's threads. Image data are not held."""

LEAST_BYTES_S = 16 << 10
"""Bytes per second at which a client must read an answer that is sent in one piece; in addition, it has `listener.WRITE_S`."""


async def respond(
    request: web.BaseRequest, answer: Reply | StreamedReply, *, held: int = SMALL, last: bool = False, more: dict[str, str] | None = None
) -> web.StreamResponse:
    """Send an answer to the client: in one piece if it is small, otherwise as it arrives.

    Args:
        request: the client's request.
        answer: the answer.
        held: bytes that are read from the service before anything is sent.
        last: close the connection afterwards, because the rest of a refused request is not worth reading.
        more: additional headers.
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
        with suppress(ConnectionResetError):  # the client has closed the connection
            await response.prepare(request)
            await response.write_eof()
        return response
    return await _stream(request, answer, handler)


async def _stream(request: web.BaseRequest, answer: StreamedReply, handler: Handler | None) -> web.StreamResponse:
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
        # The client must see that the answer is incomplete.
        if request.transport is not None:
            request.transport.close()
        raise
    finally:
        answer.close()
    return streamed
