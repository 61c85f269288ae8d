"""Processes that are of no use without the switch that they were started beside: they end with it, and the supervisor starts them again."""

from __future__ import annotations

import os
import select
import sys
import threading

from atoll.services.contract import Settings
from atoll.services.ovn import layout


def switch(settings: Settings) -> int:
    """The pid of the site's switch."""
    return int((layout.directory(settings) / "ovs-vswitchd.pid").read_text(encoding="ascii"))


def end_with(pid: int, why: str) -> None:
    """End this process when another one ends, which is seen in a thread.

    Args:
        pid: of the other one.
        why: goes to the log then.
    """
    other = os.pidfd_open(pid)

    def watch() -> None:
        select.select([other], [], [])
        end(why)

    threading.Thread(target=watch, name=f"end-with-{pid}", daemon=True).start()


def end(why: str) -> None:
    """End this process at once."""
    print(why, file=sys.stderr, flush=True)  # noqa: T201 - standard error is the log here
    os._exit(1)
