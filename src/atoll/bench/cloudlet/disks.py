"""The content of servers' disks, read independently of the programs under test, and compared by digests.

At the destination of a synthesis or a hand-off, the received disk is the backing file of the server's own disk. The guest never writes to
it, so it can be compared while the guest runs. At the source of a hand-off, hard links keep the disk after Nova has deleted the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench.failure import failed
from atoll.files import data_ranges

_PAGE = 4096  # bytes
_ZEROS = bytes(_PAGE)


def digest(raw: Path) -> str:
    """Return a digest of a raw disk. Disks that differ only in holes or in zeros at their end have the same digest."""
    made = hashlib.blake2b(digest_size=32)
    with raw.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start, end in data_ranges(file.fileno(), size):
            for place in range(start - start % _PAGE, end, _PAGE):
                page = os.pread(file.fileno(), _PAGE, place).ljust(_PAGE, b"\0")
                if page != _ZEROS:
                    made.update(place.to_bytes(8, "little"))
                    made.update(page)
    return made.hexdigest()


def disk_of(instances: Path, server: str) -> Path:
    """Return the file of a server's disk.

    Args:
        instances: the directory of the site's servers.
        server: the server's id.
    """
    return instances / server / "disk"


def received(instances: Path, server: str) -> Path:
    """Return the backing file of a server's disk: the disk that the site made of an image, or received by a hand-off.

    Raises:
        AtollError: `bench.failed`: the disk can't be read, or has no backing file.
    """
    found = _backing(disk_of(instances, server))
    if found is None:
        raise failed(f"the disk of server {server} has no backing file")
    return found


@dataclass(frozen=True)
class HeldDisk:
    """Hard links to a server's disk, which keep its content after Nova has deleted the server.

    Attributes:
        disk: the link to the disk in qcow2.
        backing: the link to its raw backing file; `None` if the disk has none.
    """

    disk: Path
    backing: Path | None

    def digest(self) -> str:
        """Return the digest of the present content, as `digest` does.

        Raises:
            AtollError: `bench.failed`: the disk can't be read.
        """
        source: dict[str, Any] = {"driver": "qcow2", "file": {"driver": "file", "filename": str(self.disk)}, "backing": None}
        if self.backing is not None:
            source["backing"] = {"driver": "raw", "file": {"driver": "file", "filename": str(self.backing)}}
        raw = self.disk.with_suffix(".raw")
        try:
            _qemu_img("convert", "-U", "-O", "raw", "json:" + json.dumps(source), str(raw))
            return digest(raw)
        finally:
            raw.unlink(missing_ok=True)

    def release(self) -> None:
        """Delete the hard links."""
        for each in (self.disk, self.backing):
            if each is not None:
                each.unlink(missing_ok=True)


def hold(instances: Path, server: str, directory: Path) -> HeldDisk:
    """Make hard links to a server's disk.

    Args:
        instances: the directory of the site's servers.
        server: the server's id.
        directory: a directory on the same file system, created if necessary.

    Raises:
        AtollError: `bench.failed`: the disk can't be read.
        OSError: the links can't be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    disk = disk_of(instances, server)
    backing = _backing(disk)
    held = HeldDisk(directory / f"{server}.disk", None if backing is None else directory / f"{server}.backing")
    held.release()
    os.link(disk, held.disk)
    if backing is not None and held.backing is not None:
        os.link(backing, held.backing)
    return held


def _backing(disk: Path) -> Path | None:
    told = json.loads(_qemu_img("info", "-U", "-f", "qcow2", "--output=json", str(disk)))
    named = told.get("full-backing-filename")
    return None if named is None else Path(named)


def _qemu_img(*words: str) -> str:
    """Run qemu-img, and return its output.

    Raises:
        AtollError: `bench.failed`: it failed.
    """
    done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise failed(f"qemu-img {words[0]}: {(done.stderr.strip().splitlines() or ['it failed without a message'])[-1][:300]}")
    return done.stdout
