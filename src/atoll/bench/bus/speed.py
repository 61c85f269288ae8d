"""`atoll bench bus`: calls and casts over one transport and the other, by the same code, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.bus.bus import Bus, opened
from atoll.bench.bus.processes import Template, ask_all, end_all, share
from atoll.bench.bus.work import Tally, Window
from atoll.bench.measure import Say, failed, memory_mb, processor_seconds, wait_until

SERVERS = 2
"""Processes with an RPC server each."""

CLIENT_PROCESSES = 4
"""Processes that the clients are spread over, at most."""

_WARM_UP_S = 1.0
_LEAD_S = 0.3  # from telling all workers until they begin together
_DRAIN_S = 120.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        clients: how many clients, one measurement for each number.
        rounds: how often everything is measured; medians count.
        seconds: for which calls count, and again casts.
        against: the name of the transport to compare with, "rabbit"; None: none.
    """

    clients: tuple[int, ...] = (1, 10, 100, 1000)
    rounds: int = 3
    seconds: float = 3.0
    against: str | None = "rabbit"


class Crew:
    """Server and client processes that use one bus, and the one that they are forked from.

    Args:
        bus: what they use.
        clients: how many clients.
        directory: of their own; it must not exist.
        environment: of their processes.
    """

    def __init__(self, bus: Bus, clients: int, directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(mode=0o700)
        shares = share(clients, CLIENT_PROCESSES)
        self._bus = bus
        self._configuration = directory / "transport.conf"
        self._template = Template(directory, environment)
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
        """Have all open their transports, and every client call once."""
        self._bus.transport.write(self._configuration)
        for index, worker in enumerate(self.servers):
            worker.ask("serve", configuration=str(self._configuration), name=f"server-{index}")
        ask_all(self.clients, "open", configuration=str(self._configuration))
        ask_all(self.clients, "greet")

    def end(self) -> None:
        """End them all, in good order."""
        end_all([*self.clients, *self.servers])
        self._template.end()

    def drive(self, command: str, warm_up_s: float, seconds: float) -> tuple[Window, Tally, float]:
        """Have the clients work.

        Args:
            command: of `clients.Clients`.
            warm_up_s: seconds that do not count.
            seconds: that count.

        Returns:
            When it was, what the clients did, and the processor seconds that all processes used while it counted.
        """
        begin = time.monotonic() + _LEAD_S
        window = Window(begin, begin + warm_up_s, begin + warm_up_s + seconds)
        for worker in self.clients:
            worker.tell(command, window=window)
        used = [self._processor_s(moment) for moment in (window.measure, window.end)]
        total = Tally()
        for worker in self.clients:
            total.add(worker.answer())
        if total.errors:
            raise failed(f"{self._bus.transport.name}: {total.errors.total()} of {total.sent} {command}s failed: {total.examples[0]}")
        return window, total, used[1] - used[0]

    def executed(self, expected: int) -> float:
        """Wait until the servers have executed so many casts.

        Returns:
            When the last one was executed, by `time.monotonic`.
        """
        counts: list[tuple[int, float]] = []

        def drained() -> bool:
            counts[:] = ask_all(self.servers, "casts")
            return sum(count for count, _last in counts) >= expected

        wait_until(drained, f"{self._bus.transport.name}: {expected} casts are executed", _DRAIN_S, _POLL_S)
        return max(last for _count, last in counts)

    def memory(self) -> dict[str, float]:
        """What the transport needs, and all memory of everything; by the names of `report.KEYS`."""
        own, others = memory_mb(self._pids), memory_mb(self._bus.pids())
        return {
            "memory_mb": round(own - self._before_mb + self._modules_mb + others, 1),
            "total_pss_mb": round(own + others, 1),
        }

    def _processor_s(self, moment: float) -> float:
        time.sleep(max(0.0, moment - time.monotonic()))
        return sum(processor_seconds([*self._pids, *self._bus.pids()]).values())


def measure(bus: Bus, clients: int, seconds: float, directory: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Measure a bus with so many clients.

    Args:
        bus: what is measured.
        clients: how many.
        seconds: for which calls count, and again casts.
        directory: of the measurement's own; it must not exist.
        environment: of the processes.

    Returns:
        The numbers, by the names of `report.KEYS`.

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


def numbers_of(calls: Tally, seconds: float, processor_s: float) -> dict[str, float]:
    """What calls amount to.

    Args:
        calls: all clients' together.
        seconds: for which they counted.
        processor_s: processor seconds that everything used meanwhile.

    Raises:
        AtollError: `bench.failed`: too few calls to speak of.
    """
    if len(calls.seconds) < 2 or not calls.counted:
        raise failed(f"only {calls.counted} calls in {seconds:.0f} s")
    percentiles = statistics.quantiles(calls.seconds, n=100, method="inclusive")
    return {
        "calls_per_s": round(calls.counted / seconds, 1),
        "p50_ms": round(1000 * percentiles[49], 3),
        "p99_ms": round(1000 * percentiles[98], 3),
        "cpu_s_per_1000_calls": round(1000 * processor_s / calls.counted, 3),
    }


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> dict[str, dict[str, list[float]]]:
    """Do the whole experiment.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the processes.
        say: told what is going on.

    Returns:
        By the name of the transport, and by the names of `report.KEYS` with the number of clients: what each round gave.

    Raises:
        AtollError: `bench.failed`.
    """
    names = ["zenoh", *([options.against] if options.against else [])]
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for number in range(options.rounds):
        # In turns: what else the machine does meets both alike.
        for name in names if number % 2 == 0 else reversed(names):
            with opened(name, root / f"{name}-{number}", environment) as bus:
                for clients in options.clients:
                    say(f"round {number + 1} of {options.rounds}: {name}, {clients} clients")
                    numbers = measure(bus, clients, options.seconds, root / f"{name}-{number}" / str(clients), environment)
                    for key, value in numbers.items():
                        samples[name].setdefault(f"{key}_{clients}", []).append(value)
    return samples
