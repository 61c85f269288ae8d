"""The machine of a run: its hardware, its software versions, and the share of time in which it was idle."""

from __future__ import annotations

import os
import platform
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Self

import psutil

import atoll
from atoll.experiment.samples import Look

_PACKAGES = ("nova", "neutron", "keystone", "glance", "openstack-placement", "SQLAlchemy", "eclipse-zenoh", "oslo.messaging", "aiohttp")
LOOK_S = 1.0
"""Seconds between two looks at the machine's processors and memory."""


def describe() -> dict[str, Any]:
    """Return the hardware and the software versions of this machine, ready for `json.dumps`."""
    return {
        "atoll": atoll.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "system": _system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


class MachineWatch:
    """A thread that looks at the machine every `LOOK_S` seconds inside its context."""

    def __init__(self, interval_s: float = LOOK_S) -> None:
        self.looks: list[Look] = []
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
        self._look()

    @property
    def idle_share(self) -> float | None:
        """The mean idle share of all looks, by their lengths, 0 to 1; `None` without a look."""
        if not self.looks:
            return None
        lengths = [look.at_s - before for look, before in zip(self.looks, [0.0, *(look.at_s for look in self.looks)], strict=False)]
        total = sum(lengths)
        return sum(look.idle * length for look, length in zip(self.looks, lengths, strict=True)) / total if total else None

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        before, self._times = self._times, psutil.cpu_times()
        spent = sum(self._times) - sum(before)
        idle = self._times.idle - before.idle + self._times.iowait - before.iowait
        share = min(1.0, max(0.0, idle / spent)) if spent > 0 else 1.0
        self.looks.append(Look(time.monotonic() - self._begun, share, psutil.virtual_memory().available / 1e6))
