"""A RabbitMQ broker that runs as long as one experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from atoll.bench.standard.daemons import Daemons
from atoll.bench.standard.servers import RabbitMQ, check_packages
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import free_ports

_START_TIMEOUT_S = 120.0
_PORTS = 3  # AMQP, Erlang's distribution, Erlang's port mapper


@dataclass(frozen=True)
class Broker:
    """A running RabbitMQ broker.

    Attributes:
        url: the transport URL for oslo.messaging.
        pids: returns the ids of its current processes.
    """

    url: str
    pids: Callable[[], list[int]]


def check_requirements() -> None:
    """Check that RabbitMQ is installed.

    Raises:
        AtollError: `bench.requirement`: RabbitMQ is not installed.
    """
    check_packages("the comparison", ["rabbitmq-server"])


@contextmanager
def running(directory: Path, environment: Mapping[str, str]) -> Iterator[Broker]:
    """Start a new RabbitMQ node with its default settings on the loopback interface, yield it, and stop it when the context ends.

    Args:
        directory: the node's own directory; it must not exist.
        environment: the environment of the node's processes.

    Raises:
        AtollError: `bench.failed`: the node did not start.
    """
    directory.mkdir(mode=0o700)
    first = free_ports(1, _PORTS)[0]
    broker = RabbitMQ(directory, (first, first + 1, first + 2), token_hex(16))
    broker.configure()
    daemons = Daemons(directory, environment)

    def answers() -> bool:
        daemons.check()
        return broker.is_up()

    try:
        daemons.start(broker.daemons())
        wait_until(answers, "RabbitMQ answers", _START_TIMEOUT_S)
        yield Broker(broker.url, daemons.pids)
    finally:
        daemons.stop()
