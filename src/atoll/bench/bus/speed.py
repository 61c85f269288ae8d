"""`atoll bench bus`: measures calls and casts over two transports alternately, with the same code."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.bus.bus import Bus, opened
from atoll.bench.bus.processes import WorkerTemplate, ask_all, end_all, share
from atoll.bench.bus.work import CallTally, Window
from atoll.bench.failure import failed
from atoll.bench.processes import memory_mb, processor_seconds
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import Workspace

SERVERS = 2
"""Number of server processes; each has one RPC server."""

CLIENT_PROCESSES = 4
"""Greatest number of processes among which the clients are divided."""

_WARM_UP_S = 1.0
_LEAD_S = 0.3  # seconds from the command to all workers until they begin together
_DRAIN_S = 120.0
_POLL_S = 0.05


@dataclass(frozen=True)
class SpeedOptions:
    """The size of the experiment.

    Attributes:
        clients: the numbers of clients; each is a measurement.
        rounds: the number of times that each measurement is repeated; the report has the medians.
        seconds: how long calls are measured, and then casts, in seconds.
        against: the name of the transport to compare with, "rabbit"; `None` means no comparison.
    """

    clients: tuple[int, ...] = (1, 10, 100, 1000)
    rounds: int = 3
    seconds: float = 3.0
    against: str | None = "rabbit"


class Crew:
    """Server and client processes that use one bus, and the process that forks them.

    Args:
        bus: the bus that the processes use.
        clients: the number of clients.
        directory: the processes' own directory; it must not exist.
        environment: the environment of the processes.
    """

    def __init__(self, bus: Bus, clients: int, directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(mode=0o700)
        shares = share(clients, CLIENT_PROCESSES)
        self._bus = bus
        self._configuration = directory / "transport.conf"
        self._template = WorkerTemplate(directory, environment)
        bare_mb = memory_mb([self._template.pid])
        self._template.ask("load", modules=bus.transport.modules)
        self._modules_mb = memory_mb([self._template.pid]) - bare_mb
        self.servers = [self._template.fork("server", f"server-{index}") for index in range(SERVERS)]
        self.clients = [self._template.fork("clients", f"clients-{index}") for index in range(len(shares))]
        for worker, count in zip(self.clients, shares, strict=True):
            worker.ask("prepare", count=count)
        ask_all(self.servers, "rehearse", clients=-(-clients // SERVERS))
        ask_all(self.clients, "rehearse")
        self._before_mb = memory_mb(self._pids)

    @property
    def _pids(self) -> list[int]:
        return [process.pid for process in (self._template, *self.servers, *self.clients)]

    def open(self) -> None:
        """Open the transports of all processes, and make every client call once."""
        self._bus.transport.write(self._configuration)
        for index, worker in enumerate(self.servers):
            worker.ask("serve", configuration=str(self._configuration), name=f"server-{index}")
        ask_all(self.clients, "open", configuration=str(self._configuration))
        ask_all(self.clients, "greet")

    def end(self) -> None:
        """End all processes gracefully."""
        end_all([*self.clients, *self.servers])
        self._template.end()

    def drive(self, command: str, warm_up_s: float, seconds: float) -> tuple[Window, CallTally, float]:
        """Make the clients send requests for a time.

        Args:
            command: the name of a method of `clients.Clients`.
            warm_up_s: seconds at the beginning that are not measured.
            seconds: the length of the measurement.

        Returns:
            The window, the clients' tally, and the processor seconds that all processes used during the measurement.
        """
        begin = time.monotonic() + _LEAD_S
        window = Window(begin, begin + warm_up_s, begin + warm_up_s + seconds)
        for worker in self.clients:
            worker.tell(command, window=window)
        used = [self._processor_s(moment) for moment in (window.measure, window.end)]
        total = CallTally()
        for worker in self.clients:
            total.add(worker.answer())
        if total.errors:
            raise failed(f"{self._bus.transport.name}: {total.errors.total()} of {total.sent} {command}s failed: {total.examples[0]}")
        return window, total, used[1] - used[0]

    def executed(self, expected: int) -> float:
        """Wait until the servers have executed as many casts as expected.

        Returns:
            The time of the last execution, by `time.monotonic`.
        """
        counts: list[tuple[int, float]] = []

        def drained() -> bool:
            counts[:] = ask_all(self.servers, "casts")
            return sum(count for count, _last in counts) >= expected

        wait_until(drained, f"{self._bus.transport.name}: {expected} casts are executed", _DRAIN_S, _POLL_S)
        return max(last for _count, last in counts)

    def memory(self) -> dict[str, float]:
        """Return the memory of the transport alone and of all processes in MB, as `memory_mb` and `total_pss_mb`."""
        own, others = memory_mb(self._pids), memory_mb(self._bus.pids())
        return {
            "memory_mb": round(own - self._before_mb + self._modules_mb + others, 1),
            "total_pss_mb": round(own + others, 1),
        }

    def _processor_s(self, moment: float) -> float:
        time.sleep(max(0.0, moment - time.monotonic()))
        return sum(processor_seconds([*self._pids, *self._bus.pids()]).values())


def measure(bus: Bus, clients: int, seconds: float, directory: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Measure a bus with a number of clients.

    Args:
        bus: the bus to measure.
        clients: the number of clients.
        seconds: how long calls are measured, and then casts, in seconds.
        directory: the measurement's own directory; it must not exist.
        environment: the environment of the processes.

    Returns:
        The measured values, by the names of `report.KEYS`.

    Raises:
        AtollError: `bench.failed`: a call or a cast failed.
    """
    crew = Crew(bus, clients, directory, environment)
    crew.open()
    _window, calls, processor_s = crew.drive("call", _WARM_UP_S, seconds)
    window, casts, _ = crew.drive("cast", 0.0, seconds)
    last = crew.executed(casts.sent)
    numbers = numbers_of(calls, seconds, processor_s) | {"casts_per_s": round(casts.sent / (last - window.begin), 1)} | crew.memory()
    crew.end()
    return numbers


def numbers_of(calls: CallTally, seconds: float, processor_s: float) -> dict[str, float]:
    """Return the rate, latencies and processor time of calls.

    Args:
        calls: the tally of all clients together.
        seconds: the length of the measurement in seconds.
        processor_s: processor seconds that all processes used during the measurement.

    Raises:
        AtollError: `bench.failed`: there were too few calls.
    """
    if len(calls.seconds) < 2 or not calls.counted:
        raise failed(f"only {calls.counted} calls succeeded in {seconds:.0f} s: too few for a percentile")
    percentiles = statistics.quantiles(calls.seconds, n=100, method="inclusive")
    return {
        "calls_per_s": round(calls.counted / seconds, 1),
        "p50_ms": round(1000 * percentiles[49], 3),
        "p99_ms": round(1000 * percentiles[98], 3),
        "cpu_s_per_1000_calls": round(1000 * processor_s / calls.counted, 3),
    }


def run(options: SpeedOptions, work: Workspace) -> dict[str, dict[str, list[float]]]:
    """Run the whole experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The values of each round, by transport and by the names of `report.KEYS` with the number of clients.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    names = ["zenoh", *([options.against] if options.against else [])]
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for number in range(options.rounds):
        # The transports take turns, so other load on the machine affects both alike.
        for name in names if number % 2 == 0 else reversed(names):
            with opened(name, work.root / f"{name}-{number}", work.environment) as bus:
                for clients in options.clients:
                    work.say(f"round {number + 1} of {options.rounds}: {name}, {clients} clients")
                    numbers = measure(bus, clients, options.seconds, work.root / f"{name}-{number}" / str(clients), work.environment)
                    for key, value in numbers.items():
                        samples[name].setdefault(f"{key}_{clients}", []).append(value)
    return samples
