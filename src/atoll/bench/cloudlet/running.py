"""The guests that run on this machine, by their processes; a thread looks for servers that run twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from atoll.bench.faults.violation import Violation

_LOOK_S = 0.5
_QEMU = "qemu-system"


@dataclass(frozen=True)
class RunningGuest:
    """A QEMU process of a server.

    Attributes:
        site: the site to whose directory the process belongs.
        server: the server's id.
    """

    site: str
    server: str


def guests(root: Path, sites: Iterable[str], processes: Path = Path("/proc")) -> list[RunningGuest]:
    """Return the QEMU processes of a cloud's servers.

    Args:
        root: the directory of the cloud's sites.
        sites: the names of the sites.
        processes: the directory of the kernel's information about processes.
    """
    found = []
    for file in processes.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended
            words = file.read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name.startswith(_QEMU) and "-uuid" in words[:-2]:
                line, server = " ".join(words), words[words.index("-uuid") + 1]
                found += [RunningGuest(site, server) for site in sites if f"{root / site}/" in line]
    return found


class TwinWatch:
    """A thread that looks for servers that run twice, again and again while the context lasts.

    Args:
        look: returns the guests that run.

    Attributes:
        violations: one for each server that was seen to run twice.
        looks: the number of looks.
    """

    def __init__(self, look: Callable[[], Sequence[RunningGuest]]) -> None:
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twins", daemon=True)
        self.violations: dict[str, Violation] = {}
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def look_once(self) -> None:
        """Look, and record the servers that run twice."""
        self.looks += 1
        for server, count in Counter(guest.server for guest in self._look()).items():
            if count > 1:
                self.violations[server] = Violation("duplicated", f"{count} guests of server {server} ran at the same time", server)

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look_once()
