"""Invalidation of a process's caches, and notices of commits to the site's gateway."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from atoll import pokes

if TYPE_CHECKING:
    import socket

_caches: list[Callable[[], None]] = []


def register(clear: Callable[[], None]) -> None:
    """Register a function that clears a cache of this process. It is called for each poke that asks the process to clear its caches."""
    _caches.append(clear)


def listen(sockets: Path, name: str) -> None:
    """Start a thread that clears the caches of this process at each poke.

    Args:
        sockets: the site's directory of sockets.
        name: the name of this process.
    """
    poked = pokes.receiver(sockets / f"{pokes.FORGET}{name}")
    threading.Thread(target=_forget, args=(poked,), name="invalidation", daemon=True).start()


AGAIN_S = 1.0
"""Seconds after which the caches are cleared a second time: a value read before the change may have been cached after the first time."""


def _forget(poked: socket.socket) -> None:
    again: float | None = None
    while True:
        ready, _, _ = select.select([poked], [], [], again)
        pokes.drain(poked)
        for clear in _caches:
            clear()
        again = AGAIN_S if ready else None


def announce_commits(sockets: Path) -> None:
    """Notify the site's gateway after each commit of a SQLAlchemy session of this process."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    poker, path = pokes.Poker(), str(sockets / pokes.COMMITTED)
    event.listen(Session, "after_commit", lambda _session: poker.poke(path))
