"""The sampler of a cell: reads, while the cell runs, the processes of each site from /proc, and the counters of the emulated links.

One thread takes all readings, so that they cost little: processor time and counters every `INTERVAL_S`, and the memory, which takes the
kernel a millisecond or more for each process, in each `MEMORY_EVERY`-th reading. The thread's own processor time is measured.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atoll.bench.site_broker import SiteBroker
from atoll.errors import AtollError
from atoll.runtime.client import connect
from atoll.runtime.proc import proportional_set_size
from atoll.site.state import State
from atoll.wan.client import Wan

INTERVAL_S = 1.0
"""Seconds between two readings of processor time and of the links' counters."""

MEMORY_EVERY = 10
"""The number of readings of which one includes the memory."""

SHARED = "shared"
"""The name of the group of processes that serve all sites: supervisor, fork servers and emulated WAN."""

Processes = Mapping[str, Iterable[int]]
"""The ids of processes by site. Their descendants belong to the same site, unless they are listed themselves."""

Counters = Mapping[str, Mapping[str, int]]
"""The counters of each direction of each link, as `atoll.wan.client.Wan.counters` returns them."""


@dataclass(frozen=True)
class Receivers:
    """The receivers of the readings.

    Attributes:
        usage: called with the fields of `atoll.experiment.samples.UsageReading`.
        traffic: called with the fields of `atoll.experiment.samples.TrafficReading`.
    """

    usage: Callable[..., None]
    traffic: Callable[..., None]


@dataclass
class _Reading:
    """One reading of processes and links.

    Attributes:
        at: the time of the reading, by `time.monotonic`.
        cpu_s: processor seconds of each site since the first reading.
        processes: the number of processes of each site.
        memory_mb: the memory of each site; empty if this reading has none.
        counters: the links' counters.
    """

    at: float
    cpu_s: dict[str, float]
    processes: dict[str, int]
    memory_mb: dict[str, float]
    counters: Counters = field(default_factory=dict)


class CellSampler:
    """A context manager whose thread takes readings while the block runs. It hands them over at the end.

    Args:
        processes: returns the ids of the processes by site.
        counters: returns the links' counters.
        receivers: the receivers of the readings.
        interval_s: seconds between two readings.

    Attributes:
        cpu_s: processor seconds that the sampler itself used so far.
    """

    def __init__(
        self, processes: Callable[[], Processes], counters: Callable[[], Counters], receivers: Receivers, interval_s: float = INTERVAL_S
    ) -> None:
        self._processes, self._counters, self._receivers, self._interval_s = processes, counters, receivers, interval_s
        self._readings: list[_Reading] = []
        self._begun: float | None = None
        self._known: dict[int, float] = {}
        self._used: dict[str, float] = defaultdict(float)
        self._stopped, self._asked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._asked.set()
        self._thread.join()
        self._hand_over()

    def begin(self) -> None:
        """Start the clock of the readings, because the measured operations begin now; take a reading immediately."""
        self._begun = time.monotonic()
        self._asked.set()

    def facts(self, seconds: float) -> dict[str, float]:
        """Return the interval of the readings, and the sampler's cost as a share of one core.

        Args:
            seconds: the time for which it has run.
        """
        return {"sampled_every_s": self._interval_s, "sampler_share": round(self.cpu_s / seconds, 5) if seconds > 0 else 0.0}

    def _watch(self) -> None:
        begun, number = time.thread_time(), 0
        while True:
            last = self._stopped.is_set()
            asked = self._asked.is_set() and not last
            if asked:
                self._asked.clear()
            with suppress(AtollError, OSError):  # a supervisor or WAN that is killed, or that ends, misses this reading
                self._take(memory=last or asked or number % MEMORY_EVERY == 0)
            self.cpu_s = time.thread_time() - begun
            if last:
                return
            number += 1
            self._asked.wait(self._interval_s)

    def _take(self, *, memory: bool) -> None:
        at = time.monotonic()
        table = process_table()
        members = by_site(self._processes(), {pid: parent for pid, (parent, _used_s) in table.items()})
        cpu_s, counts, sizes = {}, {}, {}
        for site, pids in members.items():
            self._count(site, {pid: table[pid][1] for pid in pids})
            cpu_s[site], counts[site] = self._used[site], len(pids)
            if memory:
                sizes[site] = sum(proportional_set_size(pid) or 0 for pid in pids) / 1e6
        self._readings.append(_Reading(at, cpu_s, counts, sizes, self._counters()))

    def _count(self, site: str, used_s: Mapping[int, float]) -> None:
        """Add the processor time that processes used since the last reading to their site's; in the first reading, only note it."""
        first = not self._readings
        for pid, used in used_s.items():
            self._used[site] += max(0.0, used - self._known.get(pid, used if first else 0.0))
            self._known[pid] = used

    def _hand_over(self) -> None:
        if not self._readings:
            return
        zero = self._readings[0].at if self._begun is None else self._begun
        first = self._readings[0].counters
        for reading in self._readings:
            at_s = round(reading.at - zero, 3)
            for site, cpu_s in reading.cpu_s.items():
                memory = reading.memory_mb.get(site)
                self._receivers.usage(at_s, site, round(cpu_s, 3), reading.processes[site], None if memory is None else round(memory, 2))
            for link, counts in reading.counters.items():
                base, (source, _, target) = first.get(link, {}), link.partition(":")
                packets, size = (counts[name] - base.get(name, 0) for name in ("packets_in", "bytes_in"))
                dropped = sum(counts[name] - base.get(name, 0) for name in ("lost", "overflowed", "cut"))
                self._receivers.traffic(at_s, source, target, packets, size, dropped)


def process_table() -> dict[int, tuple[int, float]]:
    """Return the parent's id and the processor seconds used so far of each process of this machine, from /proc."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                # The fields from the third on follow the process's name, which is in parentheses and may contain anything.
                fields = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                found[int(entry.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    return found


_TICKS = os.sysconf("SC_CLK_TCK")


def by_site(processes: Processes, parent: Mapping[int, int]) -> dict[str, list[int]]:
    """Return all processes of each site: the given ones that run, and their descendants.

    Args:
        processes: the ids of processes by site.
        parent: the id of the parent of each running process.
    """
    owner = {pid: site for site, pids in processes.items() for pid in pids}
    found: dict[str, list[int]] = {site: [] for site in processes}
    for pid in parent:
        at, seen = pid, set()
        while at not in owner and at in parent and at not in seen:
            seen.add(at)
            at = parent[at]
        if at in owner:
            found[owner[at]].append(pid)
    return found


def cloud_processes(state: State, sites: Iterable[str], broker: SiteBroker | None = None) -> Callable[[], Processes]:
    """Return a function that returns the ids of a cloud's processes by site.

    Args:
        state: the state directory of the cloud.
        sites: the names of its sites.
        broker: the RabbitMQ at one of the sites; `None` if the cloud has none.
    """
    names = tuple(sites)
    wan = Wan.connect(state.root)
    emulator = [] if wan is None else [int(wan.describe()["pid"])]

    def processes() -> Processes:
        found: dict[str, list[int]] = {SHARED: [*emulator], **{name: [] for name in names}}
        control = connect(state.root)
        for status in control.status() if control is not None else []:
            site = status.name.partition("/")[0]
            if status.pid:
                found[site if site in names else SHARED].append(status.pid)
        if broker is not None:
            found[broker.site].extend(broker.pids())
        return found

    return processes


def link_counters(state: State) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the counters of a cloud's links."""
    wan = Wan(state.root)
    return wan.counters
