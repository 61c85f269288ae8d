"""Ends a process together with the site's switch; the supervisor then starts both again."""

from __future__ import annotations

import os
import select
import sys
import threading

from atoll.services.contract import Settings
from atoll.services.neutron.ovn import layout


def switch(settings: Settings) -> int:
    """Return the pid of the site's switch."""
    return int((layout.directory(settings) / "ovs-vswitchd.pid").read_text(encoding="ascii"))


def end_with(pid: int, why: str) -> None:
    """Start a thread that ends this process when another process ends.

    Args:
        pid: the pid of the other process.
        why: the reason, which is logged when the other process ends.
    """
    other = os.pidfd_open(pid)

    def watch() -> None:
        select.select([other], [], [])
        exit_now(why)

    threading.Thread(target=watch, name=f"end-with-{pid}", daemon=True).start()


def exit_now(why: str) -> None:
    """Log the reason, and end this process immediately."""
    print(why, file=sys.stderr, flush=True)  # noqa: T201 - standard error is the log here
    os._exit(1)
