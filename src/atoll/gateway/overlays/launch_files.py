"""Launch images of this site's cache (`atoll.cloudlet.cache`), read for other sites.

A directory that is locked shared is not deleted; it is whole under its own name. The disk is sent as records, each of them one range of
the disk that may hold data:

    offset  bytes  field
         0      8  offset in the disk, u64
         8      4  length of the range, u32: at most 1 MiB
        12      4  length of what follows, u32
        16         the range, compressed by zstd

The last record has the size of the disk as its offset, and twice 0. All numbers are little-endian.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard

PIECE = 1 << 20
"""Greatest number of bytes of a range."""

LEVEL = 2
"""Level of zstd's compression."""

RECORD = struct.Struct("<QII")
"""The head of a record."""

_DISK = "disk"


@dataclass(frozen=True)
class LaunchFile:
    """The disk of a launch image, open to read.

    Attributes:
        descriptor: the descriptor of the file.
        size: its size in bytes.
        occupied: its bytes on the disk.
    """

    descriptor: int
    size: int
    occupied: int

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that may hold data: offset and length in bytes. Call this in a thread, because it waits for the disk."""
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self.descriptor, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # the rest is a hole
                    return
                raise
            end = os.lseek(self.descriptor, start, os.SEEK_HOLE)
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
