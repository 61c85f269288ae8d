"""A disk whose power can be cut: an ext4 file system, with its journal, on a loop device.

Killing processes leaves the kernel's page cache, so that whatever was written is still there. Here the file system itself ends between two
moments (`EXT4_IOC_SHUTDOWN` without a flush of the journal, with which xfstests simulates a loss of power). From then on no byte reaches
the device, neither by fsync nor by the kernel's write-back. The page cache is lost when the file system has
been unmounted. It is mounted again as after a power cut, by replaying the journal.

Why not copy the backing file? The copy takes a second, in which the kernel goes on writing even if all processes are stopped: it would have
blocks of several moments, a state that no disk ever had. `fsfreeze` flushes everything first, so that nothing could be missing. A
snapshot by device-mapper or reflinks would do, but not every machine has them.

The device is the same after the cut, so what had reached it is there, also without the flush that should have followed. A disk with a
volatile cache may lose that too; that flushes go down to it is the file system's business (its barriers).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

SHUTDOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`."""

NO_LOG_FLUSH = (2).to_bytes(4, "little")
"""`EXT4_GOING_FLAGS_NOLOGFLUSH`: changes outside the journal are lost."""

PATIENCE_S = 30.0


class Disk:
    """A disk whose power can be cut.

    Args:
        file: the new sparse file with its blocks.
        at: the directory to mount it at, created if necessary.
        size_mb: its size in megabytes.
    """

    def __init__(self, file: Path, at: Path, size_mb: int = 2048) -> None:
        self._file = file
        self.at = at
        at.mkdir(exist_ok=True)
        with file.open("wb") as blocks:
            blocks.truncate(size_mb * 1024 * 1024)
        _run("mkfs.ext4", "-q", "-F", file)
        self.mount()

    def mount(self) -> None:
        """Mount the disk; after a cut, replay its journal."""
        _run("mount", "-t", "ext4", "-o", "loop", self._file, self.at)

    def cut(self) -> None:
        """Cut the power. Processes with open files get errors; end them, then call `restore`."""
        directory = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(directory)

    def unmount(self) -> None:
        """Unmount the disk, which drops the page cache."""
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(["umount", self.at], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"{self.at} is in use"
            time.sleep(0.1)

    def restore(self) -> None:
        """Restore the power after a cut."""
        self.unmount()
        self.mount()

    def remove(self) -> None:
        """Unmount the disk and delete its file."""
        self.unmount()
        self.at.rmdir()
        self._file.unlink()


def lacking(directory: Path) -> str:
    """Return the reason why this machine cannot have such a disk; empty if it can.

    Args:
        directory: a directory for the trial.
    """
    if os.geteuid():
        return "only root mounts file systems"
    try:
        disk = Disk(directory / "probe.img", directory / "probe", size_mb=16)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no ext4 on a loop device: {error}"
    disk.remove()
    return ""


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
