"""Disks of sites that can lose power or be full: an ext4 file system, with its journal, on a loop device.

If only processes are killed, nothing written is lost, because it is still in the kernel's page cache. Here the file system itself is shut
down at one moment, by `EXT4_IOC_SHUTDOWN` without a flush of the journal; xfstests simulates a loss of power in the same way. From then on
no byte reaches the device, neither by fsync nor by the kernel's write-back. Unmounting the file system drops the page cache. The next mount
replays the journal, as after a power cut.

A copy of the backing file would not do: it takes a second, in which the kernel goes on writing even if all processes are stopped. The copy
would mix blocks of several moments, a state that no disk ever had. `fsfreeze` would flush everything first, so that nothing were missing. A
snapshot by device-mapper or reflinks would do, but not every machine has them.

The device keeps all data that reached it before the cut, even if no flush followed them. A real disk with a volatile cache may lose such
data as well. Atoll relies on the file system to send flushes to the disk (barriers).
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from atoll.bench.failure import failed
from atoll.bench.own_cloud import Companion
from atoll.bench.waiting import wait_until
from atoll.errors import AtollError
from atoll.site.state import State

SHUTDOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`."""

NO_LOG_FLUSH = (2).to_bytes(4, "little")
"""`EXT4_GOING_FLAGS_NOLOGFLUSH`: the shutdown does not flush the journal, so changes that the journal lacks are lost."""

PATIENCE_S = 30.0
"""Seconds to wait until no process uses a disk any more."""

_FILLER = ".filler"
_BLOCK = 4096  # bytes


class Disk:
    """A disk whose power can be cut, and that can be filled.

    Args:
        file: the new sparse file that holds the disk's blocks.
        at: the directory at which the disk is mounted, created if necessary.
        size_mb: the size of the disk in megabytes (2^20 bytes).

    Every method raises AtollError: `bench.failed`: a system command such as `mount` failed.
    """

    def __init__(self, file: Path, at: Path, size_mb: int = 2048) -> None:
        self._file = file
        self.at = at
        at.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as blocks:
            blocks.truncate(size_mb * 1024 * 1024)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", file)  # reserve no blocks for root, because the sites run as root
        self.mount()
        at.chmod(0o700)
        (at / "lost+found").rmdir()

    def mount(self) -> None:
        """Mount the disk; after a cut, replay its journal."""
        _run("mount", "-t", "ext4", "-o", "loop", self._file, self.at)

    def cut(self) -> None:
        """Cut the power. Processes with open files get errors from now on: end these processes, then call `restore`."""
        directory = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(directory)

    def fill(self) -> None:
        """Allocate all free blocks."""
        descriptor = os.open(self.at / _FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            free = os.fstatvfs(descriptor)
            piece = max(_BLOCK, free.f_bfree * free.f_frsize)
            while piece >= _BLOCK:
                try:
                    os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Release the blocks that `fill` has allocated."""
        (self.at / _FILLER).unlink(missing_ok=True)

    def unmount(self) -> None:
        """Unmount the disk, which drops the page cache.

        A mount name space that was made meanwhile (a container's, for instance) has the mount as well, and keeps the file system in the
        kernel with its page cache. So the unmounting is complete when the loop device is gone.
        """

        def unmounted() -> bool:
            return not os.path.ismount(self.at) or subprocess.run(["umount", self.at], capture_output=True, check=False).returncode == 0

        wait_until(unmounted, f"no process uses {self.at}", PATIENCE_S)
        wait_until(lambda: not _run("losetup", "--associated", self._file), f"no other mount name space has {self.at}", PATIENCE_S)

    def restore(self) -> None:
        """Restore the power after a cut."""
        self.unmount()
        self.mount()

    def remove(self) -> None:
        """Unmount the disk and delete its file. If a process still uses the disk, the blocks are freed when that process ends."""
        try:
            self.unmount()
        except AtollError:
            if os.path.ismount(self.at):
                _run("umount", "--lazy", self.at)
        self.at.rmdir()
        self._file.unlink()


class SiteDisks(Companion):
    """The disks of some sites of a cell's cloud, each with all files of its site.

    Args:
        root: the cell's own directory.
        sites: the names of the sites.
    """

    def __init__(self, root: Path, sites: Iterable[str]) -> None:
        self._root, self._sites = root, tuple(dict.fromkeys(sites))
        self._disks: dict[str, Disk] = {}

    def __getitem__(self, site: str) -> Disk:
        """Return the disk of a site."""
        return self._disks[site]

    def before_start(self, state: State) -> None:
        """Mount a disk at the directory of each site."""
        if self._sites:
            state.stamp()  # `atoll up` refuses a directory with files of other programs
        for site in self._sites:
            self._disks[site] = Disk(self._root / f"{site}.img", state.site(site))

    def before_destroy(self, stop: Callable[[], None]) -> None:
        """Stop the cloud and remove the disks: `atoll destroy` can't remove a directory where a disk is mounted."""
        if not self._disks:
            return
        with suppress(AtollError):
            stop()
        for disk in self._disks.values():
            disk.remove()
        self._disks.clear()


def lacking(directory: Path) -> str:
    """Try to make such a disk, and return the reason why this machine can't; empty if it can.

    Args:
        directory: an existing directory for the trial's files.
    """
    if os.geteuid():
        return "only root can mount file systems"
    try:
        disk = Disk(directory / "probe.img", directory / "probe", size_mb=16)
    except (AtollError, OSError) as error:
        (directory / "probe.img").unlink(missing_ok=True)
        return f"an ext4 file system on a loop device can't be made: {error.message if isinstance(error, AtollError) else error}"
    disk.remove()
    return ""


def _run(*command: str | Path) -> str:
    """Run a command of the machine, and return its standard output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise failed(f"{command[0]}: {' '.join((done.stderr or done.stdout).split()) or f'exit status {done.returncode}'}")
    return done.stdout
