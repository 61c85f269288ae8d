"""The memory and processor time of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psutil

from atoll.runtime.proc import proportional_set_size


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
