"""Facts about other processes, read from /proc."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def proportional_set_size(pid: int) -> int | None:
    """Return a process's proportional set size in bytes: shared pages are divided among their users; `None` if it can't be read."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None
