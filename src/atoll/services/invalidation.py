"""Caches that forget when something was changed at another site, and word to the mesh that something was committed here."""

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
    """Have a cache of this process emptied whenever the process is told to forget."""
    _caches.append(clear)


def listen(sockets: Path, name: str) -> None:
    """Wait, in a thread of its own, to be told to forget.

    Args:
        sockets: the site's directory of sockets.
        name: of this process.
    """
    poked = pokes.receiver(sockets / f"{pokes.FORGET}{name}")
    threading.Thread(target=_forget, args=(poked,), name="invalidation", daemon=True).start()


AGAIN_S = 1.0
"""Seconds after which caches are emptied again: what was read just before the change may be put into one just after it was emptied."""


def _forget(poked: socket.socket) -> None:
    again: float | None = None
    while True:
        ready, _, _ = select.select([poked], [], [], again)
        pokes.drain(poked)
        for clear in _caches:
            clear()
        again = AGAIN_S if ready else None


def tell_of_commits(sockets: Path) -> None:
    """Tell the mesh after each transaction of SQLAlchemy's sessions in this process."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    poker, path = pokes.Poker(), str(sockets / pokes.COMMITTED)
    event.listen(Session, "after_commit", lambda _session: poker.poke(path))
