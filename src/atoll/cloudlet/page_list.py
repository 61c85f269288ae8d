"""Lists of the digests of a part's pages, stored beside the part, so that a base is hashed only once.

    offset  bytes  field
         0      8  "ATOLLPGS"
         8      2  version, u16: 1
        10      6  0
        16      8  size of the part in bytes, u64
        24      8  0
        32     32  for each page its BLAKE3 digest, or 32 zero bytes for a page of zeros

The list has 0.8 % of the part's size. It is read in pieces. Where the part has a hole, the list has one too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atoll.cloudlet.failures import invalid
from atoll.cloudlet.guarded import open_regular, require_own
from atoll.cloudlet.pages import DIGEST, Digests, Numbers, count, part_root, runs

SUFFIX = ".pages"
"""Suffix of the file name of a list, after the part's name."""

_MAGIC = b"ATOLLPGS"
_HEADER = struct.Struct("<8sHHIQQ")
_PIECE = 32_768  # pages: 1 MiB of digests


class PageList:
    """An open list of digests.

    Args:
        descriptor: the open file; the list closes it.
        size: the size of the part in bytes.
        where: the file's name, for errors.
    """

    def __init__(self, descriptor: int, size: int, where: str) -> None:
        self._descriptor = descriptor
        self.size = size
        self.pages = count(size)
        self._where = where

    def close(self) -> None:
        """Close the file of the list."""
        os.close(self._descriptor)

    def read(self, first: int, pages: int) -> Digests:
        """Return the digests of `pages` pages from page `first`.

        Raises:
            AtollError: `cloudlet.invalid`: the file is too short.
        """
        data = bytearray(pages * DIGEST)
        read = os.preadv(self._descriptor, [data], _HEADER.size + first * DIGEST)
        if read != len(data):
            raise invalid(self._where, "the list of digests is too short", "make the image again")
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, DIGEST)

    def pieces(self) -> Iterator[tuple[int, Digests]]:
        """Yield the whole list in pieces of at most 1 MiB, each with the number of its first page."""
        for first in range(0, self.pages, _PIECE):
            yield first, self.read(first, min(_PIECE, self.pages - first))

    def pick(self, numbers: Numbers) -> Digests:
        """Return the digests of the pages with the given numbers."""
        found = np.empty((len(numbers), DIGEST), dtype=np.uint8)
        for place, first, pages in runs(numbers):
            found[place : place + pages] = self.read(first, pages)
        return found

    def write(self, numbers: Numbers, digests: Digests) -> None:
        """Replace the digests of the pages with the given numbers.

        Raises:
            OSError: the file can't be written.
        """
        for place, first, pages in runs(numbers):
            _write(self._descriptor, digests[place : place + pages].tobytes(), _HEADER.size + first * DIGEST)

    def root(self) -> bytes:
        """Return the digest of the part to which the list belongs."""
        return part_root(self.size, (piece.tobytes() for _, piece in self.pieces()))

    def flush(self) -> None:
        """Flush the list to the disk."""
        os.fsync(self._descriptor)


def create(path: Path, size: int) -> PageList:
    """Create the list for a part that consists of zeros, as a file that only its owner can use; replace an existing file.

    Args:
        path: the list's file.
        size: the size of the part in bytes.

    Raises:
        OSError: the file can't be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, _HEADER.pack(_MAGIC, 1, 0, 0, size, 0), 0)
        os.ftruncate(descriptor, _HEADER.size + count(size) * DIGEST)
    except OSError:
        os.close(descriptor)
        raise
    return PageList(descriptor, size, str(path))


def load(path: Path, size: int, *, writable: bool = False) -> PageList:
    """Open the list of a part, and return it.

    Args:
        path: the list's file.
        size: the size of the part in bytes.
        writable: whether the list will be changed; if so, the file must belong to the user.

    Raises:
        AtollError: `cloudlet.invalid`: the file is not a list for a part of that size; `cloudlet.unusable`: it belongs to another user.
        OSError: the file can't be read.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW if writable else os.O_RDONLY)
    try:
        if writable:
            require_own(path, descriptor)
        head = os.pread(descriptor, _HEADER.size, 0)
        length = os.fstat(descriptor).st_size
    except BaseException:
        os.close(descriptor)
        raise
    if head != _HEADER.pack(_MAGIC, 1, 0, 0, size, 0) or length != _HEADER.size + count(size) * DIGEST:
        os.close(descriptor)
        raise invalid(str(path), f"expected the list of digests of a part of {size} bytes", "make the image again")
    return PageList(descriptor, size, str(path))


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
