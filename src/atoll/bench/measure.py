"""Measurements of memory and processor time, and waiting with a time limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from atoll.errors import AtollError
from atoll.runtime.linux import proportional_set_size

Say = Callable[[str], None]
"""A function that shows a line about the progress of an experiment."""


def failed(message: str, hint: str | None = None) -> AtollError:
    """Return a `bench.failed` error for the caller to raise."""
    return AtollError("bench.failed", message, hint)


def family(pids: Iterable[int]) -> list[int]:
    """Return the ids of the live processes among `pids`, and of all their descendants."""
    found: dict[int, None] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found.update(dict.fromkeys([pid, *(child.pid for child in process.children(recursive=True))]))
        except psutil.NoSuchProcess:
            continue
    return list(found)


def memory_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of processes in megabytes (10^6 bytes); memory that these processes share counts once."""
    return round(sum(proportional_set_size(pid) or 0 for pid in pids) / 1e6, 1)


def processor_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Return the processor time that each process has used so far, in seconds."""
    times: dict[int, float] = {}
    for pid in pids:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        times[pid] = used.user + used.system
    return times


def processor_percent(pids: Callable[[], list[int]], seconds: float) -> float:
    """Return the processor time of processes as a percentage of one core.

    Args:
        pids: returns the ids of the processes; called again at the end, so that new processes are included.
        seconds: the length of the measurement in seconds.
    """
    begun, before = time.monotonic(), processor_seconds(pids())
    time.sleep(seconds)
    after, elapsed = processor_seconds(pids()), time.monotonic() - begun
    used = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
    return round(100 * used / elapsed, 2)


def wait_until(check: Callable[[], bool], what: str, timeout_s: float, interval_s: float = 0.1) -> None:
    """Wait until a condition holds.

    Args:
        check: tests the condition; an exception ends the waiting.
        what: a description of the condition for the error message.
        timeout_s: seconds to wait.
        interval_s: seconds between two tests.

    Raises:
        AtollError: `bench.failed`: the condition did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise failed(f"{what}: not true after {timeout_s:.0f} s")
        time.sleep(interval_s)


def median(samples: Sequence[float]) -> float | None:
    """Return the median rounded to three decimals, or `None` without samples."""
    return round(statistics.median(samples), 3) if samples else None
