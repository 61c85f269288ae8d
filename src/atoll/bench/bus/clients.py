"""The client side of an experiment: many threads, each with an RPC client, which share the transport of their process."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll.bench.bus import rehearsal
from atoll.bench.bus.transport import TOPIC, open_transport
from atoll.bench.bus.work import CallTally, Threads, Window, work


class Clients:
    """RPC clients that send the next call or cast as soon as the previous one is answered."""

    def __init__(self) -> None:
        self._payload = rehearsal.payload()
        self._clients: list[Any] = []

    def prepare(self, count: int) -> None:
        """Start the threads of the clients.

        Args:
            count: the number of clients.
        """
        self._threads = Threads(count)
        self._count = count

    def rehearse(self) -> None:
        """Make calls and casts inside this process, so that only the transport adds memory later; see `rehearsal`."""
        server, _threads = rehearsal.serve()
        rehearsal.play(self._threads, self._payload)
        server.stop()
        server.wait()
        rehearsal.tidy()

    def open(self, configuration: str) -> None:
        """Open the transport and give each thread a client; see `open_transport`."""
        from oslo_messaging import Target, get_rpc_client

        transport = open_transport(configuration)
        self._clients = [get_rpc_client(transport, Target(topic=TOPIC)) for _ in range(self._count)]

    def greet(self) -> None:
        """Make every client call once, so that all connections are open."""
        self._threads.run(lambda number: self._clients[number].call({}, "echo", payload=self._payload))

    def call(self, window: Window) -> CallTally:
        """Make every client call during the window, and return the tally of all calls."""
        return self._drive(window, lambda client: client.call({}, "echo", payload=self._payload))

    def cast(self, window: Window) -> CallTally:
        """Make every client cast during the window, and return the tally of all casts."""
        return self._drive(window, lambda client: client.cast({}, "note", payload=self._payload))

    def close(self) -> None:
        """Do nothing: the threads end with the process."""

    def _drive(self, window: Window, request: Callable[[Any], Any]) -> CallTally:
        def one(number: int) -> CallTally:
            client = self._clients[number]
            time.sleep(max(0.0, window.begin - time.monotonic()))
            return work(window, lambda: request(client))

        total = CallTally()
        for tally in self._threads.run(one):
            total.add(tally)
        return total


class Casters(Clients):
    """RPC clients that cast each number once and record its outcome."""

    def cast_numbers(self, first: int, last: int, directory: str, name: str) -> tuple[CallTally, float]:
        """Cast the numbers from `first` to `last`, without `last`, divided among the clients.

        Args:
            first: the first number.
            last: the number after the last one.
            directory: the directory of the files `NAME.acknowledged` and `NAME.failed`, with 8 bytes for each number.
            name: the first part of the names of these files.

        Returns:
            The tally of the casts, and the time at which they ended, by `time.monotonic`.
        """

        def one(number: int) -> tuple[array[int], array[int], CallTally]:
            return cast_each(range(first + number, last, self._count), lambda each: self._clients[number].cast({}, "note", number=each))

        results = self._threads.run(one)
        ended, total, base = time.monotonic(), CallTally(), Path(directory) / name
        with base.with_suffix(".acknowledged").open("wb") as acknowledged, base.with_suffix(".failed").open("wb") as failed:
            for fine, bad, tally in results:
                fine.tofile(acknowledged)
                bad.tofile(failed)
                total.add(tally)
        return total, ended


def cast_each(numbers: range, cast: Callable[[int], Any]) -> tuple[array[int], array[int], CallTally]:
    """Cast numbers one after the other.

    Args:
        numbers: the numbers.
        cast: casts one number.

    Returns:
        The numbers of acknowledged casts, the numbers of casts that raised an error, and the tally of the errors.
    """
    acknowledged, failed, tally = array("Q"), array("Q"), CallTally()
    for number in numbers:
        try:
            cast(number)
        except Exception as error:
            failed.append(number)
            tally.fail(error)
        else:
            acknowledged.append(number)
    tally.sent = len(acknowledged)
    return acknowledged, failed, tally
