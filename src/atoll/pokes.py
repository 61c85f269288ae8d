"""Pokes between the processes of one site: empty datagrams on Unix sockets in the site's directory `run`.

No process waits for a poke, and a lost one does no harm: its receiver also checks for changes periodically.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

COMMITTED = "mesh.poke"
"""The socket of the gateway's process: the identity database has new commits."""

COMPUTES = "bus.poke"
"""The socket of the bus's router: the list of compute sites has changed."""

FORGET = "forget."
"""The prefix of the sockets of processes that hold caches; the name of the process follows."""


def receiver(path: Path) -> socket.socket:
    """Return a socket that receives pokes, in place of one that a killed process left."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made


def drain(poked: socket.socket) -> bool:
    """Take all waiting pokes; return whether there was any."""
    found = False
    with suppress(BlockingIOError):
        while True:
            poked.recv(16, socket.MSG_DONTWAIT)
            found = True
    return found


def poke(path: Path) -> None:
    """Poke the owner of a socket once, if there is one; use a `Poker` for repeated pokes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own, suppress(OSError):
        own.setblocking(False)
        own.sendto(b"", str(path))


class Poker:
    """A socket from which pokes are sent."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def poke(self, path: Path | str) -> None:
        """Poke the owner of a socket, if there is one. A full queue needs no further poke."""
        with suppress(OSError):
            self._socket.sendto(b"", str(path))

    def close(self) -> None:
        """Close the sending socket of this poker."""
        self._socket.close()

    def forget(self, sockets: Path, process: str = "*") -> None:
        """Tell one process of a site, or all, to empty their caches.

        Args:
            sockets: the site's directory of sockets.
            process: the name of the process without the name of its site; `*` for all processes.
        """
        for path in sockets.glob(FORGET + process):
            self.poke(path)
