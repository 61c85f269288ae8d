"""Bodies of requests: read whole, within limits of size and time; or, of an image's data alone, passed on at no less than a least rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.streams import StreamReader

from atoll.gateway.request.target import Refused

WHOLE_S = 30.0
"""Seconds in which a body that is read whole must arrive."""

WINDOW_S = 20.0
"""Seconds of waiting for a client over which the rate of its upload is measured."""

LEAST_BYTES_S = 4096
"""Bytes a second that an upload brings at least; a slower one is broken off."""


class Upload(AsyncIterator[bytes]):
    """The data of an image, on their way from a client.

    Only the time spent waiting for the client counts: a service that reads slowly is not the client's fault.

    Args:
        content: where they come from.
        window_s: see `WINDOW_S`.
        least_bytes_s: see `LEAST_BYTES_S`.

    Attributes:
        failure: why the client's side broke off; empty if it has not.
    """

    def __init__(self, content: StreamReader, window_s: float = WINDOW_S, least_bytes_s: float = LEAST_BYTES_S) -> None:
        self._content = content
        self._window_s = window_s
        self._least = least_bytes_s * window_s
        self._waited = 0.0
        self._got = 0
        self.failure = ""

    async def __anext__(self) -> bytes:
        """Return the next piece.

        Raises:
            ConnectionResetError: the client broke off, or is too slow.
        """
        while (piece := await self._wait()) is None:
            pass
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _wait(self) -> bytes | None:
        """Return the next piece; `None` if the window has ended without one, at a rate that suffices."""
        now = asyncio.get_running_loop().time
        begun = now()
        piece: bytes | None = None
        try:
            async with asyncio.timeout(self._window_s - self._waited):
                piece = await self._content.readany()
        except TimeoutError:
            pass
        except (web.RequestPayloadError, OSError, ValueError) as error:
            raise self._failed(f"the client broke off: {error or type(error).__name__}") from error
        self._waited += now() - begun
        self._got += len(piece or b"")
        if self._waited >= self._window_s:
            if self._got < self._least:
                raise self._failed(f"the client sends less than {self._least / self._window_s:.0f} bytes a second")
            self._waited, self._got = 0.0, 0
        return piece

    def _failed(self, why: str) -> ConnectionResetError:
        self.failure = why
        return ConnectionResetError(why)


async def whole(request: web.BaseRequest, limit: int, within_s: float = WHOLE_S) -> bytes:
    """Read a body whole.

    Args:
        request: whose.
        limit: bytes at most.
        within_s: seconds.

    Raises:
        Refused: it did not arrive in time, or not at all, or is too large.
        web.RequestPayloadError: it is malformed.
    """
    body = bytearray()
    check_size(request, limit)
    try:
        async with asyncio.timeout(within_s):
            while piece := await request.content.readany():
                body += piece
                if len(body) > limit:
                    raise Refused(413, _TOO_LARGE.format(limit))
    except TimeoutError:
        raise Refused(408, f"the request's body did not arrive in {within_s:.0f} s") from None
    except OSError:
        raise Refused(400, "the client has gone before its request was whole") from None
    return bytes(body)


def check_size(request: web.BaseRequest, limit: int) -> int:
    """Return how many bytes a body that is read whole has at most.

    Raises:
        Refused: it is too large.
    """
    length = request.content_length
    if length is not None and length > limit:
        raise Refused(413, _TOO_LARGE.format(limit))
    return limit if length is None else length


_TOO_LARGE = "the request is larger than {} bytes"
