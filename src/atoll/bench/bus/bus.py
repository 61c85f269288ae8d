"""A bus to measure: its transport, and what has to run for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.bus import broker, transport
from atoll.bench.bus.transport import Transport

NAMES = ("zenoh", "rabbit")
"""Ours, and what it is compared with."""


@dataclass(frozen=True)
class Bus:
    """A transport that can be used now.

    Attributes:
        transport: how to reach it.
        pids: the processes that it needs beside those that use it, now.
    """

    transport: Transport
    pids: Callable[[], list[int]] = list


@contextmanager
def opened(name: str, directory: Path, environment: Mapping[str, str], *, journal: bool | None = None) -> Iterator[Bus]:
    """Have a bus, for a while.

    Args:
        name: one of `NAMES`.
        directory: of its own; it must not exist.
        environment: of its processes.
        journal: see `transport.zenoh`; nothing to RabbitMQ.

    Raises:
        AtollError: `bench.failed`: it could not be started.
    """
    directory.mkdir(mode=0o700)
    if name == "zenoh":
        yield Bus(transport.zenoh(directory, journal=journal))
    else:
        with broker.running(directory / "broker", environment) as rabbit:
            yield Bus(transport.rabbit(rabbit.url), rabbit.pids)
