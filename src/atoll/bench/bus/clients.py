"""The clients' side of an experiment: many threads with an RPC client each, and one transport for all of a process."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll.bench.bus import rehearsal
from atoll.bench.bus.transport import TOPIC, open_transport
from atoll.bench.bus.work import Tally, Threads, Window, work


class Clients:
    """Clients that call or cast as fast as they are answered."""

    def __init__(self) -> None:
        self._payload = rehearsal.payload()
        self._clients: list[Any] = []

    def prepare(self, count: int) -> None:
        """Start the threads.

        Args:
            count: how many clients.
        """
        self._threads = Threads(count)
        self._count = count

    def rehearse(self) -> None:
        """Do the same without a transport; see `rehearsal`."""
        server, _threads = rehearsal.serve()
        rehearsal.play(self._threads, self._payload)
        server.stop()
        server.wait()
        rehearsal.tidy()

    def open(self, configuration: str) -> None:
        """Open the transport, and give each thread a client; see `open_transport`."""
        from oslo_messaging import Target, get_rpc_client  # noqa: PLC0415 - see `open_transport`

        transport = open_transport(configuration)
        self._clients = [get_rpc_client(transport, Target(topic=TOPIC)) for _ in range(self._count)]

    def greet(self) -> None:
        """Have every client call once, so that all connections are made."""
        self._threads.run(lambda number: self._clients[number].call({}, "echo", payload=self._payload))

    def call(self, window: Window) -> Tally:
        """Have every client call."""
        return self._drive(window, lambda client: client.call({}, "echo", payload=self._payload))

    def cast(self, window: Window) -> Tally:
        """Have every client cast."""
        return self._drive(window, lambda client: client.cast({}, "note", payload=self._payload))

    def close(self) -> None:
        """Nothing: the end of the process is the end of its threads."""

    def _drive(self, window: Window, request: Callable[[Any], Any]) -> Tally:
        def one(number: int) -> Tally:
            client = self._clients[number]
            time.sleep(max(0.0, window.begin - time.monotonic()))
            return work(window, lambda: request(client))

        total = Tally()
        for tally in self._threads.run(one):
            total.add(tally)
        return total


class Casters(Clients):
    """Clients that cast numbers, each once, and remember what became of it."""

    def cast_numbers(self, first: int, last: int, directory: str, name: str) -> tuple[Tally, float]:
        """Cast the numbers from `first` up to, but without, `last`, shared out among the clients.

        Args:
            first: number.
            last: number, exclusive.
            directory: `NAME.acknowledged` and `NAME.failed` are written there, 8 bytes for each number.
            name: of these files.

        Returns:
            What was done, and when it was over, by `time.monotonic`.
        """

        def one(number: int) -> tuple[array[int], array[int], Tally]:
            return cast_each(range(first + number, last, self._count), lambda each: self._clients[number].cast({}, "note", number=each))

        results = self._threads.run(one)
        ended, total, base = time.monotonic(), Tally(), Path(directory) / name
        with base.with_suffix(".acknowledged").open("wb") as acknowledged, base.with_suffix(".failed").open("wb") as failed:
            for fine, bad, tally in results:
                fine.tofile(acknowledged)
                bad.tofile(failed)
                total.add(tally)
        return total, ended


def cast_each(numbers: range, cast: Callable[[int], Any]) -> tuple[array[int], array[int], Tally]:
    """Cast numbers, one after the other.

    Args:
        numbers: which.
        cast: casts one.

    Returns:
        Those whose cast was acknowledged, those whose cast raised, and the count of the errors.
    """
    acknowledged, failed, tally = array("Q"), array("Q"), Tally()
    for number in numbers:
        try:
            cast(number)
        except Exception as error:  # noqa: BLE001, RUF100 - whatever a transport raises is counted
            failed.append(number)
            tally.fail(error)
        else:
            acknowledged.append(number)
    tally.sent = len(acknowledged)
    return acknowledged, failed, tally
