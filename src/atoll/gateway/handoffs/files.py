"""The files of hand-offs at a site: the states of disks, residues that arrive, and disks that nova-compute takes.

    handoffs/ID/states/DIGEST/    the states that this site has
                residue           the residue that is sent, or that arrives
                launches          the names of launch images that the user may have here
    arrivals/SERVER.ID            the disk of a committed server, until nova-compute renames it into its cache
             SERVER.ID.memory     its memory, if that was sent, until nova-compute takes it
             SERVER.ID.hardware   the description of the machine of that memory

All are on one file system with Nova's instances, so that a disk is handed over by a rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from atoll.files import flush, make_directory
from atoll.gateway.handoffs.journal import Arrival
from atoll.identifiers import ARRIVALS, arrival_file, arrival_memory

DISK = "disk"
"""Name of the disk in the directory of a state."""

_MEMORY = ("memory", "hardware")
_LAUNCHES = "launches"

_STATE = re.compile(r"[0-9a-f]{64}")


class HandoffFiles:
    """The directories of the hand-offs at this site.

    Args:
        root: the directory of the cloudlet's files.
        images: the directory of Nova's cache of images.

    Attributes:
        cache: the directory of the cache of bases and launch images, which need not exist.
    """

    def __init__(self, root: Path, images: Path) -> None:
        self._images = images
        self._handoffs = root / "handoffs"
        self.cache = root / "cache"
        self._arrivals = root / ARRIVALS

    def directory(self, identifier: str) -> Path:
        """Return the directory of a hand-off, and create it if it does not exist."""
        path = self._handoffs / identifier
        make_directory(path)
        return path

    def states(self, identifier: str) -> Path:
        """Return the directory of a hand-off's states, which need not exist."""
        return self._handoffs / identifier / "states"

    def residue(self, identifier: str) -> Path:
        """Return the file of a residue that is sent or arrives."""
        return self._handoffs / identifier / "residue"

    def held(self, identifier: str) -> list[str]:
        """Return the names of the states that a hand-off has here, the newest first."""
        with suppress(FileNotFoundError):
            found = [path for path in self.states(identifier).iterdir() if not path.name.startswith(".")]
            return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)]
        return []

    def note_launches(self, identifier: str, names: Sequence[str]) -> None:
        """Keep the cache names of the launch images that the user of a hand-off may have at this site."""
        (self.directory(identifier) / _LAUNCHES).write_text(json.dumps(list(names)), encoding="ascii")

    def launches(self, identifier: str) -> list[str]:
        """Return the names that `note_launches` has kept."""
        with suppress(FileNotFoundError):
            names: list[str] = json.loads((self._handoffs / identifier / _LAUNCHES).read_text(encoding="ascii"))
            return names
        return []

    def identifiers(self) -> set[str]:
        """Return the ids of the hand-offs that have a directory."""
        with suppress(FileNotFoundError):
            return {path.name for path in self._handoffs.iterdir()}
        return set()

    def idle_s(self, identifier: str, now_s: float) -> float | None:
        """Return the seconds since a file of a hand-off was last written; `None` if it has no files.

        Args:
            identifier: the hand-off's id.
            now_s: seconds since 1970.
        """
        with suppress(FileNotFoundError):
            paths = (self._handoffs / identifier, *(self._handoffs / identifier).rglob("*"))
            return now_s - max(path.stat().st_mtime for path in paths)
        return None

    def keep_only(self, identifier: str, *states: str) -> None:
        """Delete all states of a hand-off but the given ones."""
        for name in self.held(identifier):
            if name not in states:
                shutil.rmtree(self.states(identifier) / name, ignore_errors=True)

    def remove(self, identifier: str) -> None:
        """Delete all files of a hand-off, but not a disk that nova-compute may take."""
        shutil.rmtree(self._handoffs / identifier, ignore_errors=True)

    # Disks for nova-compute

    def has(self, arrival: Arrival, disk: str) -> bool:
        """Return whether the state with a digest has arrived whole."""
        return _STATE.fullmatch(disk) is not None and (self.states(arrival.id) / disk / DISK).is_file()

    def offer(self, arrival: Arrival, disk: str) -> None:
        """Put a disk, and before it the memory, where nova-compute takes them.

        Nothing happens if the disk is there already or was taken, or if the name is no state's.
        """
        made = self.states(arrival.id) / disk / DISK
        if not self.has(arrival, disk):  # the source chooses the name, which must not lead to the disk of another server
            return
        make_directory(self._arrivals)
        for name, offered in zip(_MEMORY, self._offered_memory(arrival), strict=True):
            with suppress(FileNotFoundError):
                made.with_name(name).replace(offered)
        made.replace(self._offered(arrival))
        flush(self._arrivals)

    def taken(self, arrival: Arrival) -> bool:
        """Return whether nova-compute has taken the disk of a hand-off into its cache, under a file name of this hand-off alone."""
        name = hashlib.sha1(arrival_file(arrival.server, arrival.id).encode(), usedforsecurity=False).hexdigest()
        return (self._images / name).is_file()

    def withdraw(self, arrival: Arrival) -> None:
        """Take a disk away again, unless nova-compute has taken it."""
        with suppress(FileNotFoundError):
            self._offered(arrival).unlink()
            flush(self._arrivals)
        self._withdraw_memory(arrival)  # after the disk: nova-compute takes the memory first, and does not start a server without a disk

    def drop(self, arrival: Arrival) -> None:
        """Delete the files of a hand-off that has ended."""
        self.remove(arrival.id)
        self._withdraw_memory(arrival)

    def _withdraw_memory(self, arrival: Arrival) -> None:
        for path in self._offered_memory(arrival):
            path.unlink(missing_ok=True)

    def _offered_memory(self, arrival: Arrival) -> list[Path]:
        return [self._arrivals / name for name in arrival_memory(arrival.server, arrival.id)]

    def _offered(self, arrival: Arrival) -> Path:
        return self._arrivals / arrival_file(arrival.server, arrival.id)


def append(path: Path, offset: int, data: bytes) -> int:
    """Write a piece of a residue at its offset, and return the number of bytes that are there now.

    A piece that does not follow the bytes that are there is dropped: the sender continues at the returned number. Offset 0 begins anew.

    Raises:
        OSError: the file can't be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if offset == 0:
            os.ftruncate(descriptor, 0)
        elif offset != size:
            return size
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
        return offset + written
    finally:
        os.close(descriptor)
