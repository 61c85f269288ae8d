"""An MQTT broker (aMQTT) in a process of its own, at a free port of the loopback interface.

`python -m use_cases.broker` prints the port and serves until its standard input ends, so that it never outlives the process that started
it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from use_cases.service import run, started

HOST = "127.0.0.1"

_PATIENCE_S = 300
"""Seconds within which the broker must have started."""


@asynccontextmanager
async def running() -> AsyncIterator[int]:
    """Run a broker, and yield its port.

    Raises:
        RuntimeError: the broker did not start.
    """
    async with started("use_cases.broker", stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)
        if not line.strip().isdigit():
            raise RuntimeError("the MQTT broker did not start")
        yield int(line)


def _listening() -> socket.socket:
    """Return a socket at a free port, only to learn the port's number."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((HOST, 0))
    return found


async def _serve() -> None:
    from amqtt.broker import Broker  # noqa: PLC0415 # only this process needs it

    with _listening() as free:
        port = free.getsockname()[1]
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run(_serve())
