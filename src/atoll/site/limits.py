"""Memory and open files that this machine leaves to a user: whether they suffice for what is to be started.

Without them a site does not fail to start in one clear way: the kernel kills some process, or one of them can't open some file.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from atoll.errors import AtollError
from atoll.runtime.spec import Plan

FORK_SERVERS_BYTES = 350_000_000
"""Memory that the fork servers take at least, in bytes. With 500 MB left, the kernel kills processes of the first site."""

SITE_BYTES = 200_000_000
"""Memory that a site takes at least, in bytes; three new sites and the fork servers take 1400 MB."""

PROCESS_FILES = 256
"""Open files that a process of a site may need; Nova's has most."""

SUPERVISOR_FILES = 64
"""Open files of the supervisor, besides one for each port and `FILES_OF_PROCESS` for each process."""

FILES_OF_PROCESS = 2

_CGROUPS = Path("/sys/fs/cgroup")
_FILES = (
    # Version 2, then version 1: limit and use in bytes; the line of memory.stat with the bytes that the kernel can take back.
    (_CGROUPS, "memory.max", "memory.current", "inactive_file"),
    (_CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def check_memory(sites: int, *, warm: bool) -> None:
    """Refuse to start sites for which there is certainly too little memory.

    Args:
        sites: how many full sites are to be started.
        warm: True if the fork servers run already.

    Raises:
        AtollError: `machine.limit`.
    """
    if not sites:
        return
    needed = sites * SITE_BYTES + (0 if warm else FORK_SERVERS_BYTES)
    available = min([_available(), *_left_in_groups()])
    if available < needed:
        what = "one site needs" if sites == 1 else f"{sites} sites need"
        message = f"{available // 10**6} MB of memory are available: {what} at least {needed // 10**6} MB"
        raise AtollError("machine.limit", message, "end something, start fewer sites, or use another machine")


def check_files(plan: Plan) -> None:
    """Refuse a plan for which this user may open too few files.

    Raises:
        AtollError: `machine.limit`.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = sum(len(process.listen) for process in plan.processes)
    needed = max(PROCESS_FILES, SUPERVISOR_FILES + ports + FILES_OF_PROCESS * (len(plan.processes) + len(plan.fork_servers)))
    if hard != resource.RLIM_INFINITY and hard < needed:
        message = f"a process may open {hard} files: expected at least {needed}"
        hint = f"`ulimit -Hn {needed}` as root, `LimitNOFILE=` of systemd, or /etc/security/limits.conf"
        raise AtollError("machine.limit", message, hint)


def _available() -> int:
    """Bytes that the machine can give without taking any from other processes; swap counts."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))


def _left_in_groups() -> Iterator[int]:
    """Bytes that are left in each control group of this process that has a limit."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, limit, used, reclaimable = _FILES[1 if controllers else 0]
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            # A container may see its own group as the root, or not see it.
            with suppress(OSError, ValueError):
                left = int((root / group / limit).read_text()) - int((root / group / used).read_text())
                yield left + _statistic(root / group / "memory.stat", reclaimable)


def _statistic(file: Path, name: str) -> int:
    for line in file.read_text(encoding="ascii").splitlines():
        key, _space, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
