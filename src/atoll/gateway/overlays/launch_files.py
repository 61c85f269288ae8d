"""Launch images of this site's cache (`atoll.cloudlet.cache`), read for other sites.

While a shared lock is held on the directory of a launch image, the image is not deleted. A directory under its final name is complete.
`atoll.overlay_images` describes the records in which a disk is sent.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard

from atoll.files import data_ranges
from atoll.overlay_images import PIECE, RECORD

LEVEL = 2
"""Level of zstd's compression."""

_DISK = "disk"


@dataclass(frozen=True)
class LaunchFile:
    """The disk of a launch image, open for reading.

    Attributes:
        descriptor: the descriptor of the file.
        size: its size in bytes.
        occupied: the number of bytes that it occupies on the disk.
    """

    descriptor: int
    size: int
    occupied: int

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that may hold data: offset and length in bytes. Call this in a thread, because it waits for the disk."""
        for start, end in data_ranges(self.descriptor, self.size):
            for offset in range(start, end, PIECE):
                yield offset, min(PIECE, end - offset)

    def record(self, offset: int, length: int) -> bytes:
        """Return the record of a range. Call this in a thread."""
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(os.pread(self.descriptor, length, offset))
        return RECORD.pack(offset, length, len(packed)) + packed

    def last_record(self) -> bytes:
        """Return the record that ends the disk."""
        return RECORD.pack(self.size, 0, 0)


@contextmanager
def held(cache: Path, name: str) -> Iterator[LaunchFile | None]:
    """Yield the disk of a launch image, which is not deleted while the context lasts; `None` if the cache lacks it.

    Args:
        cache: the directory of the cache.
        name: the name of the image, 64 hexadecimal digits.
    """
    with ExitStack() as stack:
        file = None
        with suppress(OSError):
            directory = os.open(cache / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
            descriptor = os.open(_DISK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            stack.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and (cache / name).is_dir():
                file = LaunchFile(descriptor, found.st_size, found.st_blocks * 512)
        yield file
