"""What the command line asks a gateway: HTTP on a Unix socket that only the site's owner may open."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from atoll.errors import AtollError

Answer = Callable[[web.Request], Awaitable[Any]]

SOCKET = "gateway.http"
"""The name of the socket. It does not end in `.sock`: what does is a process of the message bus."""


class Control:
    """The server. Each handler returns what is to be answered as JSON, or raises AtollError.

    Args:
        socket: its path.
        handlers: by method and path (`("GET", "/members")`).
    """

    def __init__(self, socket: Path, handlers: dict[tuple[str, str], Answer]) -> None:
        self._socket = socket
        application = web.Application()
        for (method, path), handler in handlers.items():
            application.router.add_route(method, path, _as_json(handler))
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Answer from now on."""
        await self._runner.setup()
        self._socket.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._socket)).start()
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Answer no more."""
        await self._runner.cleanup()


def _as_json(handler: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handler(request))
        except AtollError as error:
            refused = {"code": error.kind.code, "message": error.message, "hint": error.hint}
            return web.json_response(refused, status=error.kind.status)

    return handle
