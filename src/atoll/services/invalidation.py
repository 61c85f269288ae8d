"""Caches that forget when what they hold was changed at another site, and word to the mesh that something was changed here.

Both go over datagrams on Unix sockets in the site's directory `run`: nobody waits, and nothing is lost with one, for a cache's entries
expire and the mesh looks at its outbox by itself every few seconds.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

POKE = "mesh.poke"
"""The socket of the mesh."""

FORGET = "forget."
"""What the names of the caches' sockets begin with; that of the process follows."""

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
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = sockets / f"{FORGET}{name}"
    path.unlink(missing_ok=True)  # of a process that was killed
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    threading.Thread(target=_forget, args=(receiver,), name="invalidation", daemon=True).start()


def _forget(receiver: socket.socket) -> None:
    while True:
        receiver.recv(16)
        with suppress(BlockingIOError):  # many at once are one
            while receiver.recv(16, socket.MSG_DONTWAIT):
                pass
        for clear in _caches:
            clear()


def tell_of_commits(sockets: Path) -> None:
    """Tell the mesh after each transaction of SQLAlchemy's sessions in this process."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    path = str(sockets / POKE)

    def send(_session: Session) -> None:
        with suppress(OSError):  # nobody is there, or has yet to read the last hundred
            sender.sendto(b"\0", path)

    event.listen(Session, "after_commit", send)
