"""Programs that an agent of Neutron has started: they go on without it, so that its restart is no interruption, and must be ended by us."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def end(state: Path, sign: bytes = b"") -> list[str]:
    """End the programs of an agent: once their network namespaces are gone, nobody else could.

    Args:
        state: the directory where the agent keeps what it knows, their pid files among it.
        sign: what the command line of each of them has in it, if it is not the path of this directory.

    Returns:
        the names that the pid files had; most begin with the id of a network or a router.
    """
    files = [file for file in state.rglob("*pid*") if file.is_file()]
    for file in files:
        with suppress(OSError, ValueError):
            pid = int(file.read_text(encoding="ascii"))
            # The pid may be another's by now. Most of them are told a file in this directory.
            if (sign or os.fsencode(state)) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        file.unlink(missing_ok=True)
    return [file.name for file in files]
