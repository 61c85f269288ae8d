"""Memory, processor time, and waiting: what the numbers of an experiment are made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from atoll.errors import AtollError
from atoll.runtime.linux import proportional_set_size

Say = Callable[[str], None]
"""Tells a person what is going on."""


def failed(message: str, hint: str | None = None) -> AtollError:
    """A `bench.failed` error, for the caller to raise."""
    return AtollError("bench.failed", message, hint)


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all their descendants, as far as they live."""
    found: dict[int, None] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found.update(dict.fromkeys([pid, *(child.pid for child in process.children(recursive=True))]))
        except psutil.NoSuchProcess:
            continue
    return list(found)


def memory_mb(pids: Iterable[int]) -> float:
    """The proportional set size of processes, in megabytes (10^6 bytes): what they share among themselves is counted once."""
    return round(sum(proportional_set_size(pid) or 0 for pid in pids) / 1e6, 1)


def processor_seconds(pids: Iterable[int]) -> dict[int, float]:
    """The processor time that each process has used so far, in seconds."""
    times: dict[int, float] = {}
    for pid in pids:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        times[pid] = used.user + used.system
    return times


def processor_percent(pids: Callable[[], list[int]], seconds: float) -> float:
    """How much of one core processes use, in percent.

    Args:
        pids: the processes, asked again at the end: those born meanwhile count in full.
        seconds: for how long to look.
    """
    begun, before = time.monotonic(), processor_seconds(pids())
    time.sleep(seconds)
    after, elapsed = processor_seconds(pids()), time.monotonic() - begun
    used = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
    return round(100 * used / elapsed, 2)


def wait_until(check: Callable[[], bool], what: str, timeout_s: float, interval_s: float = 0.1) -> None:
    """Wait until something holds.

    Args:
        check: looks, and may raise to give up.
        what: is waited for, for the error.
        timeout_s: how long.
        interval_s: between two looks.

    Raises:
        AtollError: `bench.failed`: it did not come to hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise failed(f"{what}: still not so after {timeout_s:.0f} s")
        time.sleep(interval_s)


def median(samples: Sequence[float]) -> float | None:
    """The median, rounded to milliseconds; None if there is nothing."""
    return round(statistics.median(samples), 3) if samples else None
