"""The message bus that an experiment measures: a transport of oslo.messaging, and the processes that the transport needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.bus import broker, transport
from atoll.bench.bus.transport import Transport

NAMES = ("zenoh", "rabbit")
"""The names of the transports: Atoll's own (Zenoh), and RabbitMQ's for comparison."""


@dataclass(frozen=True)
class Bus:
    """A transport that is ready for use.

    Attributes:
        transport: the transport's configuration.
        pids: returns the ids of the transport's own processes, such as a broker's, without those of clients and servers.
    """

    transport: Transport
    pids: Callable[[], list[int]] = list


@contextmanager
def opened(name: str, directory: Path, environment: Mapping[str, str], *, journal: bool | None = None) -> Iterator[Bus]:
    """Start a bus, yield it, and stop it when the context ends.

    Args:
        name: one of `NAMES`.
        directory: the bus's own directory; it must not exist.
        environment: the environment of the bus's processes.
        journal: whether servers keep a journal of acknowledged casts, as for `transport.zenoh`; without effect on RabbitMQ.

    Raises:
        AtollError: `bench.failed`: the bus could not be started.
    """
    directory.mkdir(mode=0o700)
    if name == "zenoh":
        yield Bus(transport.zenoh(directory, journal=journal))
    else:
        with broker.running(directory / "broker", environment) as rabbit:
            yield Bus(transport.rabbit(rabbit.url), rabbit.pids)
