"""Copies bytes between the two ends of a console, at the pace of the slower end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp

from atoll.gateway.console.ends import End, Farewell


async def join(client: End, guest: End, ended: asyncio.Future[Farewell]) -> Farewell:
    """Copy the bytes of each end to the other until one of them closes; then close both.

    Args:
        client: the client's end.
        guest: the guest's end, or the gateway of its site.
        ended: a future that is done when the gateway itself ends the console.

    Returns:
        The reason why the console ended.
    """
    copies = {asyncio.ensure_future(_copy(client, guest)): client, asyncio.ensure_future(_copy(guest, client)): guest}
    farewell = Farewell(1001, "the gateway is stopping")
    try:
        waited: list[asyncio.Future[Any]] = [*copies, ended]
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        farewell = ended.result() if ended in done else copies[next(copy for copy in copies if copy in done)].farewell
        return farewell
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        await asyncio.gather(client.close(farewell), guest.close(farewell))


async def _copy(source: End, sink: End) -> None:
    with suppress(OSError, RuntimeError, aiohttp.ClientError):  # one of the ends has disconnected
        while data := await source.read():
            await sink.write(data)
