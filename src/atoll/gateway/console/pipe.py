"""Carries bytes between the two ends of a console, no faster than the slower of them takes them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp

from atoll.gateway.console.ends import End, Farewell


async def join(client: End, guest: End, ended: asyncio.Future[Farewell]) -> Farewell:
    """Carry what comes from each end to the other, until one is closed; then close both.

    Args:
        client: one end.
        guest: the other.
        ended: is done when the console is to end although neither end says so.

    Returns:
        Why it has ended.
    """
    copies = {asyncio.ensure_future(_copy(client, guest)): client, asyncio.ensure_future(_copy(guest, client)): guest}
    farewell = Farewell(1001, "the gateway stops")
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
    with suppress(OSError, RuntimeError, aiohttp.ClientError):  # whichever of them is gone
        while data := await source.read():
            await sink.write(data)
