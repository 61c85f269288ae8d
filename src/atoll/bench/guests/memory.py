"""The memory of a site's processes by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from atoll.bench.command import pids
from atoll.runtime.proc import proportional_set_size
from atoll.site import guests
from atoll.site.state import State
from atoll.site.status import status

Megabytes = Mapping[str, float]
"""The memory of processes by name, in 10^6 bytes."""


@dataclass(frozen=True)
class Memory:
    """The memory of a site.

    Attributes:
        proportional: the proportional set size of each process by name, as in `atoll status`. Shared memory is divided among the processes
            that share it, including those of other sites.
        private: the memory of each process by name that no other process shares.
    """

    proportional: Megabytes
    private: Megabytes


def of_site(state: State, site: str) -> Memory:
    """Return the memory of a site's processes in `atoll status` and of their children, without guests.

    Args:
        state: the state directory of the cloud.
        site: the name of the site.
    """
    found = processes(state, site)
    return Memory(
        {name: sum(proportional_set_size(pid) or 0 for pid in each) / 1e6 for name, each in found.items()},
        {name: sum(_private(pid) for pid in each) / 1e6 for name, each in found.items()},
    )


def processes(state: State, site: str) -> dict[str, list[int]]:
    """Return the ids of a site's processes by name."""
    (shown,) = status(state, [site]).sites
    found = defaultdict(list, {row.name.partition("/")[2]: [row.pid] for row in shown.processes if row.pid is not None})
    known = {pid for each in found.values() for pid in each} | {guest.pid for guest in guests.running(state.site(site))}
    for pid in pids(state):
        name = _name(pid, state.site(site))
        if name and pid not in known:
            found[name].append(pid)
    return dict(found)


def _name(pid: int, directory: Path) -> str:
    """Return the name of a program whose arguments contain a path of the site; empty for other programs."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return ""
    return Path(words[0]).name if any(f"{directory}/" in word for word in words) else ""


def _private(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0


def difference(more: Megabytes, less: Megabytes) -> dict[str, float]:
    """Return the megabytes by which each process of one site exceeds that of the other, the largest first."""
    found = {name: round(more.get(name, 0) - less.get(name, 0), 1) for name in {*more, *less}}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def total(memory: Megabytes) -> float:
    """Return the memory of all processes together, in megabytes."""
    return round(sum(memory.values()), 1)
