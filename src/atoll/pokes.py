"""Pokes between the processes of one site: empty datagrams on Unix sockets in its directory `run`.

Nobody waits for one, and one that is lost does no harm: whoever is poked also looks by itself now and then.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

COMMITTED = "mesh.poke"
"""The mesh's socket: something was committed to the identity database."""

COMPUTES = "bus.poke"
"""The bus router's socket: the list of compute sites has changed."""

FORGET = "forget."
"""What the names of those sockets begin with whose processes hold caches; the name of the process follows."""


def receiver(path: Path) -> socket.socket:
    """A socket that is poked; an older one of that name, of a process that was killed, is removed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made


def drain(poked: socket.socket) -> bool:
    """Take all pokes that are there, which are one; return whether there was any."""
    found = False
    with suppress(BlockingIOError):
        while True:
            poked.recv(16, socket.MSG_DONTWAIT)
            found = True
    return found


def poke(path: Path) -> None:
    """Poke whoever has a socket there, if anybody, once: a `Poker` does it again and again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own, suppress(OSError):
        own.setblocking(False)
        own.sendto(b"", str(path))


class Poker:
    """Pokes others."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def poke(self, path: Path | str) -> None:
        """Poke whoever has a socket there, if anybody; who has not looked at the last hundred needs no more."""
        with suppress(OSError):
            self._socket.sendto(b"", str(path))

    def forget(self, sockets: Path, process: str = "*") -> None:
        """Have a process of a site empty its caches, or all of them.

        Args:
            sockets: the site's directory of sockets.
            process: its name without that of the site.
        """
        for path in sockets.glob(FORGET + process):
            self.poke(path)
