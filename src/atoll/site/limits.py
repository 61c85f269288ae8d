"""Checks that the machine leaves enough memory and open files for the processes to start.

Without these checks, a site would fail in unclear ways: the kernel kills a process, or a process can't open a file.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from atoll.errors import AtollError
from atoll.runtime.spec import Plan

FORK_SERVERS_BYTES = 350_000_000
"""Least memory that the fork servers need, in bytes. With 500 MB available, the kernel kills processes of the first site."""

SITE_BYTES = 200_000_000
"""Least memory that a site needs, in bytes; three new sites and the fork servers take 1400 MB."""

PROCESS_FILES = 256
"""Greatest number of open files of any process of a site; Nova's process has the most."""

SUPERVISOR_FILES = 64
"""Open files of the supervisor, besides one for each port and `FILES_OF_PROCESS` for each process."""

FILES_OF_PROCESS = 2

_CGROUPS = Path("/sys/fs/cgroup")
_FILES = (
    # Version 2, then version 1: limit and use in bytes; the line of memory.stat with the bytes that the kernel can reclaim.
    (_CGROUPS, "memory.max", "memory.current", "inactive_file"),
    (_CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def check_memory(sites: int, *, warm: bool) -> None:
    """Check that the memory may suffice for new sites.

    Args:
        sites: number of full sites to start.
        warm: whether the fork servers run already.

    Raises:
        AtollError: `machine.limit`: the memory is certainly too small.
    """
    if not sites:
        return
    needed = sites * SITE_BYTES + (0 if warm else FORK_SERVERS_BYTES)
    available = min([_available(), *_left_in_groups()])
    if available < needed:
        what = "one site needs" if sites == 1 else f"{sites} sites need"
        message = f"{available // 10**6} MB of memory are available: {what} at least {needed // 10**6} MB"
        raise AtollError("machine.limit", message, "end other programs, start fewer sites, or use another machine")


def check_files(plan: Plan) -> None:
    """Check that this user may open enough files for a plan.

    Raises:
        AtollError: `machine.limit`: the hard limit of open files is too low.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = sum(len(process.listen) for process in plan.processes)
    needed = max(PROCESS_FILES, SUPERVISOR_FILES + ports + FILES_OF_PROCESS * (len(plan.processes) + len(plan.fork_servers)))
    if hard != resource.RLIM_INFINITY and hard < needed:
        message = f"a process may open {hard} files: expected at least {needed}"
        hint = f"`ulimit -Hn {needed}` as root, `LimitNOFILE=` of systemd, or /etc/security/limits.conf"
        raise AtollError("machine.limit", message, hint)


def _available() -> int:
    """Return the bytes of memory that are available without taking any from other processes, swap included."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))


def _left_in_groups() -> Iterator[int]:
    """Yield the bytes of memory that are left in each control group (cgroup) of this process that has a limit."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, limit, used, reclaimable = _FILES[1 if controllers else 0]
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            # In a container, the group may appear as the root, or not at all.
            with suppress(OSError, ValueError):
                left = int((root / group / limit).read_text()) - int((root / group / used).read_text())
                yield left + _statistic(root / group / "memory.stat", reclaimable)


def _statistic(file: Path, name: str) -> int:
    for line in file.read_text(encoding="ascii").splitlines():
        key, _space, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
