"""Connects standard input and output with the WebSocket of a console."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aiohttp

from atoll.errors import AtollError
from atoll.gateway.console import WHY

LEAVE = b"\x1d"
"""The key that leaves the console: Ctrl-], as in telnet and virsh."""

_CHUNK = 4096
_CONNECT_S = 30.0
_CLOSE = aiohttp.ClientWSTimeout(ws_close=2.0)


def attach(url: str) -> str:
    """Send standard input to a console and write its output to standard output, until either side ends it.

    Args:
        url: the URL of the console's WebSocket.

    Returns:
        The reason why the other side has closed the console; empty if the user has left it.

    Raises:
        AtollError: `console.unavailable`: the console can't be opened.
    """
    return asyncio.run(_attach(url))


async def _attach(url: str) -> str:
    async with aiohttp.ClientSession(trust_env=False) as session:
        try:
            async with asyncio.timeout(_CONNECT_S):
                socket = await session.ws_connect(url, protocols=("binary",), timeout=_CLOSE)
        except aiohttp.WSServerHandshakeError as error:
            why = error.headers.get(WHY) if error.headers is not None else None
            raise AtollError("console.unavailable", f"the console can't be opened: {why or f'HTTP {error.status}'}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"the console can't be opened: the gateway does not answer ({type(error).__name__})"
            raise AtollError("console.unavailable", message, "see `atoll status`") from None
        typed = sys.stdin.fileno()
        with _raw(typed):
            return await _carry(socket, typed, sys.stdout.fileno())


async def _carry(socket: aiohttp.ClientWebSocketResponse, typed: int, shown: int) -> str:
    loop = asyncio.get_running_loop()
    left = asyncio.Event()
    # Read standard input in a thread, because it may be a file, for which an event loop can't wait.
    threading.Thread(target=_read, args=(typed, socket, loop, left), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, left.set)
    showing = asyncio.ensure_future(_show(socket, shown))
    leaving = asyncio.ensure_future(left.wait())
    await asyncio.wait((showing, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not showing.done():
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        await socket.close()
        return ""
    return showing.result()


async def _show(socket: aiohttp.ClientWebSocketResponse, shown: int) -> str:
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            data = memoryview(message.data)
            while data:
                data = data[os.write(shown, data) :]
        elif message.type is aiohttp.WSMsgType.CLOSE:
            return str(message.extra or "the console was closed")
        else:
            return "the connection was lost"


def _read(typed: int, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop, left: asyncio.Event) -> None:
    """Send standard input to the console, piece by piece; the next piece is read when the last one was sent. This runs in a thread."""
    interactive = os.isatty(typed)
    with suppress(OSError, RuntimeError, aiohttp.ClientError):  # the connection is closed, or the loop ends
        while data := os.read(typed, _CHUNK):
            kept, leave, _rest = data.partition(LEAVE) if interactive else (data, b"", b"")
            if kept:
                asyncio.run_coroutine_threadsafe(socket.send_bytes(kept), loop).result()
            if leave:
                break
        else:
            if not interactive:
                return  # the whole input was sent, but answers may still arrive
        loop.call_soon_threadsafe(left.set)


@contextmanager
def _raw(typed: int) -> Iterator[None]:
    """Put a terminal into raw mode, in which each key is passed on unchanged; do nothing for other files."""
    if not os.isatty(typed):
        yield
        return
    before = termios.tcgetattr(typed)
    try:
        tty.setraw(typed, termios.TCSADRAIN)  # keep keys that were typed before, because they are for the guest too
        yield
    finally:
        termios.tcsetattr(typed, termios.TCSADRAIN, before)
        os.write(sys.stderr.fileno(), b"\r\n")
