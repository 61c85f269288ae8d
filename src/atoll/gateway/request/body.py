"""Reads request bodies: image data pass through as they arrive, at a minimum rate; others are read whole, with limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.streams import StreamReader

from atoll.gateway.request.target import Refused

WHOLE_S = 30.0
"""Seconds within which a body that is read whole must arrive."""

WINDOW_S = 20.0
"""Seconds spent waiting for the client over which the rate of an upload is measured."""

LEAST_BYTES_S = 4096
"""Bytes per second; a slower upload is broken off."""


class Upload(AsyncIterator[bytes]):
    """The data of an image that a client uploads.

    The rate is measured only over the time spent waiting for the client; a service may read slowly.

    Args:
        content: the body of the client's request.
        window_s: see `WINDOW_S`.
        least_bytes_s: see `LEAST_BYTES_S`.

    Attributes:
        failure: the reason why the upload broke off at the client's side; empty if it did not.
    """

    def __init__(self, content: StreamReader, window_s: float = WINDOW_S, least_bytes_s: float = LEAST_BYTES_S) -> None:
        self._content = content
        self._window_s = window_s
        self._least = least_bytes_s * window_s
        self._waited = 0.0
        self._got = 0
        self.failure = ""

    async def __anext__(self) -> bytes:
        """Return the next piece of the data.

        Raises:
            ConnectionResetError: the client closed the connection, or is too slow.
        """
        while (piece := await self._wait()) is None:
            pass
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _wait(self) -> bytes | None:
        """Return the next piece; `None` if no piece came before the end of the window, and the rate was sufficient."""
        now = asyncio.get_running_loop().time
        begun = now()
        piece: bytes | None = None
        try:
            async with asyncio.timeout(self._window_s - self._waited):
                piece = await self._content.readany()
        except TimeoutError:
            pass
        except (web.RequestPayloadError, OSError, ValueError) as error:
            raise self._failed(f"the client broke off the upload: {error or type(error).__name__}") from error
        self._waited += now() - begun
        self._got += len(piece or b"")
        if self._waited >= self._window_s:
            if self._got < self._least:
                raise self._failed(f"the client sends less than {self._least / self._window_s:.0f} bytes per second")
            self._waited, self._got = 0.0, 0
        return piece

    def _failed(self, why: str) -> ConnectionResetError:
        self.failure = why
        return ConnectionResetError(why)


async def whole(request: web.BaseRequest, limit: int, within_s: float = WHOLE_S) -> bytes:
    """Return the whole body of a request.

    Args:
        request: the request.
        limit: the greatest size of the body in bytes.
        within_s: seconds within which the body must arrive.

    Raises:
        Refused: the body is too large, did not arrive in time, or broke off.
        web.RequestPayloadError: the body is malformed.
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
        raise Refused(408, f"the body of the request did not arrive within {within_s:.0f} s") from None
    except OSError:
        raise Refused(400, "the client closed the connection before its request was complete") from None
    return bytes(body)


def check_size(request: web.BaseRequest, limit: int) -> int:
    """Return the maximum number of bytes of a body that is read whole: its declared length, or the limit.

    Raises:
        Refused: the declared length exceeds the limit.
    """
    length = request.content_length
    if length is not None and length > limit:
        raise Refused(413, _TOO_LARGE.format(limit))
    return limit if length is None else length


_TOO_LARGE = "the body of the request is larger than {} bytes"
