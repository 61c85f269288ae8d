"""Programs that an agent of Neutron left behind.

An agent's programs (dnsmasq, haproxy, strongSwan) outlive it, so that a restart of the agent interrupts no guest. Once their network
namespaces are gone, only Atoll can end them.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill_orphans(directory: Path, marker: bytes = b"") -> list[str]:
    """Kill the programs whose pid files are in an agent's state directory, and remove the pid files.

    Args:
        directory: the agent's state directory.
        marker: bytes that the command line of each program contains; by default, the path of the directory.

    Returns:
        the names of the pid files; most begin with the id of a network or a router.
    """
    files = [file for file in directory.rglob("*pid*") if file.is_file()]
    for file in files:
        with suppress(OSError, ValueError):
            pid = int(file.read_text(encoding="ascii"))
            # The pid may belong to another program by now. Nearly all of an agent's programs have a file in this directory as an argument.
            if (marker or os.fsencode(directory)) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        file.unlink(missing_ok=True)
    return [file.name for file in files]
