"""The machine on which a run takes place: its hardware, its software versions, and the share of time in which it was idle."""

from __future__ import annotations

import os
import platform
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

import atoll
from atoll.experiment.samples import Reading

_PACKAGES = ("nova", "neutron", "keystone", "glance", "openstack-placement", "SQLAlchemy", "eclipse-zenoh", "oslo.messaging", "aiohttp")
READING_S = 1.0
"""Seconds between two readings of the machine's idle processor time and available memory."""


def describe() -> dict[str, Any]:
    """Return the hardware and the software versions of this machine, ready for `json.dumps`."""
    return {
        "atoll": atoll.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "system": _system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _processor() -> str:
    """Return the model of the processor as the kernel names it; empty if it names none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


class MachineWatch:
    """A context manager whose thread reads idle processor time and available memory at regular intervals while the block runs.

    Args:
        interval_s: seconds between two readings.

    Attributes:
        readings: the readings so far, the oldest first.
    """

    def __init__(self, interval_s: float = READING_S) -> None:
        self.readings: list[Reading] = []
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._times = psutil.cpu_times()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        self._take()

    @property
    def idle_share(self) -> float | None:
        """The idle share of the machine, 0 to 1, averaged over the time of all readings; `None` if there is no reading."""
        if not self.readings:
            return None
        starts = [0.0, *(reading.at_s for reading in self.readings)]
        lengths = [reading.at_s - start for reading, start in zip(self.readings, starts, strict=False)]
        total = sum(lengths)
        return sum(reading.idle * length for reading, length in zip(self.readings, lengths, strict=True)) / total if total else None

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._take()

    def _take(self) -> None:
        before, self._times = self._times, psutil.cpu_times()
        spent = sum(self._times) - sum(before)
        idle = self._times.idle - before.idle + self._times.iowait - before.iowait
        share = min(1.0, max(0.0, idle / spent)) if spent > 0 else 1.0
        self.readings.append(Reading(time.monotonic() - self._begun, share, psutil.virtual_memory().available / 1e6))
