"""A proxy between Unix sockets that delays each byte, to emulate the distance between a site and its database server.

The proxy runs in a process of its own: `python -m atoll.bench.stores.delay LISTEN TARGET`. It reads each new delay from its standard
input, and answers each with a line. Without a distance, new connections go to the server itself, because each chunk costs the proxy time.
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


class _Proxy:
    """The proxy, in its own process."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._seconds = 0.0  # delay of each way

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward each chunk after the delay."""
        queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while (item := await queue.get()) is not None:
                due, data = item
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                writer.write(data)
            writer.close()

        delivery = asyncio.create_task(deliver())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                queue.put_nowait((loop.time() + self._seconds, data))
        queue.put_nowait(None)
        await delivery

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._target)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pump(reader, ours), self._pump(theirs, writer))

    def _on_line(self) -> None:
        if line := sys.stdin.readline():
            self._seconds = float(line) / 2000  # each way
            sys.stdout.write(line)
            sys.stdout.flush()
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def serve(self, listen: str) -> None:
        """Serve until the process ends."""
        server = await asyncio.start_unix_server(self._connected, listen)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._on_line)
        await server.serve_forever()


class Distance:
    """The adjustable round-trip time of a running proxy."""

    def __init__(self, process: subprocess.Popen[str], link: Path, target: Path, proxy: Path) -> None:
        self._process = process
        self._link, self._target, self._proxy = link, target, proxy

    def set(self, milliseconds: float) -> None:
        """Set the round-trip time, in milliseconds: of all bytes that the proxy gets from now on, and of new connections."""
        new = self._link.with_suffix(".new")
        new.symlink_to(self._proxy if milliseconds else self._target)
        new.replace(self._link)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{milliseconds}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()


@contextlib.contextmanager
def delayed(target: Path, link: Path) -> Iterator[Distance]:
    """Run a proxy, and yield the distance to the server, which is 0 at first.

    Args:
        target: the server's Unix socket.
        link: the path to which clients connect: a link to the server's socket or to the proxy's.

    Raises:
        AtollError: `bench.failed`: the proxy did not start.
    """
    listen = link.with_name("proxy.sock")
    command = [sys.executable, "-m", "atoll.bench.stores.delay", str(listen), str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(listen.exists, "the delaying proxy listens", _START_S, 0.02)
        distance = Distance(process, link, target, listen)
        distance.set(0)
        yield distance
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Proxy(sys.argv[2]).serve(sys.argv[1]))
