"""What the processes of a site take, by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from atoll.bench.command import pids
from atoll.runtime.linux import proportional_set_size
from atoll.site import guests
from atoll.site.state import State
from atoll.site.status import status

Megabytes = Mapping[str, float]
"""Of 10^6 bytes, by process."""


@dataclass(frozen=True)
class Memory:
    """What a site takes.

    Attributes:
        proportional: as `atoll status` shows it: what several processes share is divided among them, those of other sites too.
        private: what no other process has.
    """

    proportional: Megabytes
    private: Megabytes


def of_site(state: State, site: str) -> Memory:
    """What a site takes: the processes that `atoll status` shows, and those that these have started, other than guests.

    Args:
        state: of the cloud.
        site: its name.
    """
    found = processes(state, site)
    return Memory(
        {name: sum(proportional_set_size(pid) or 0 for pid in each) / 1e6 for name, each in found.items()},
        {name: sum(_private(pid) for pid in each) / 1e6 for name, each in found.items()},
    )


def processes(state: State, site: str) -> dict[str, list[int]]:
    """The processes of a site, by name."""
    (shown,) = status(state, [site]).sites
    found = defaultdict(list, {row.name.partition("/")[2]: [row.pid] for row in shown.processes if row.pid is not None})
    known = {pid for each in found.values() for pid in each} | {guest.pid for guest in guests.running(state.site(site))}
    for pid in pids(state):
        name = _name(pid, state.site(site))
        if name and pid not in known:
            found[name].append(pid)
    return dict(found)


def _name(pid: int, directory: Path) -> str:
    """The name of a program that was started with a path of the site; empty for any other."""
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
    """What one takes more than the other, by process, the largest first."""
    found = {name: round(more.get(name, 0) - less.get(name, 0), 1) for name in {*more, *less}}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def total(memory: Megabytes) -> float:
    """All of it."""
    return round(sum(memory.values()), 1)
