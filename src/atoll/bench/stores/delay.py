"""A proxy between Unix sockets that delays each byte, to emulate the distance between a site and its database server.

The proxy runs in a process of its own: `python -m atoll.bench.stores.delay LISTEN TARGET MILLISECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from atoll.bench.waiting import wait_until

_START_S = 20.0
_CHUNK_BYTES = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Forward each chunk `seconds` seconds after its arrival."""
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def deliver() -> None:
        while (item := await queue.get()) is not None:
            due, data = item
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(data)
        writer.close()

    delivery = asyncio.create_task(deliver())
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            queue.put_nowait((loop.time() + seconds, data))
    queue.put_nowait(None)
    await delivery


async def _serve(listen: str, target: str, milliseconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(target)
        seconds = milliseconds / 2000  # each way
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pump(reader, ours, seconds), _pump(theirs, writer, seconds))

    server = await asyncio.start_unix_server(connected, listen)
    await server.serve_forever()


@contextlib.contextmanager
def delayed(target: Path, listen: Path, milliseconds: float) -> Iterator[Path]:
    """Run a proxy and yield the socket to connect to.

    Args:
        target: the server's Unix socket.
        listen: the proxy's Unix socket.
        milliseconds: the round-trip time that the proxy adds.

    Raises:
        AtollError: `bench.failed`: the proxy did not start.
    """
    process = subprocess.Popen([sys.executable, "-m", "atoll.bench.stores.delay", str(listen), str(target), str(milliseconds)])
    try:
        wait_until(listen.exists, "the delaying proxy listens", _START_S, 0.02)
        yield listen
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1], sys.argv[2], float(sys.argv[3])))
