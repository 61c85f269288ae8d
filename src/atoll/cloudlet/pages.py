"""Pages of 4 KiB, their digests, and the digests of parts, which consist of pages.

A part of a virtual machine (a disk, its memory) is a sequence of pages; the last page is padded with zeros. The digest of a part is the
digest of the list of its pages' digests. So if a part differs from a base in a few pages, its digest can be computed from the base's list
and those pages alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

PAGE = 4096
"""Size of a page in bytes."""

DIGEST = 32
"""Size of a digest in bytes."""

ZERO = bytes(DIGEST)
"""The digest of a page of zeros; the digest of every other page is its BLAKE3 digest."""

Digests = NDArray[np.uint8]
"""Digests of pages: one row of `DIGEST` bytes each."""

ZERO_DIGEST = np.zeros((1, DIGEST), np.uint8)
"""The digest `ZERO` as a row."""

Pages = NDArray[np.uint64]
"""Contents of pages: one row of 512 little-endian words of 8 bytes each."""

Numbers = NDArray[np.uint32]
"""Numbers of pages; page 0 is the first of its part."""

_WORDS = PAGE // 8
_PART = "atoll cloudlet 1 part"


def count(size: int) -> int:
    """Return the number of pages of `size` bytes."""
    return -(-size // PAGE)


def as_pages(data: bytes | bytearray | memoryview) -> Pages:
    """Return the bytes of whole pages as rows of words, without a copy."""
    return np.frombuffer(data, dtype="<u8").reshape(-1, _WORDS)


def as_bytes(pages: Pages) -> memoryview:
    """Return pages as bytes, without a copy if the array is contiguous."""
    return np.ascontiguousarray(pages).reshape(-1).view(np.uint8).data


def hash_pages(pages: Pages) -> Digests:
    """Return the digests of pages; a page of zeros has the digest `ZERO`."""
    filled = pages.any(axis=1)
    data, digests = as_bytes(pages), np.zeros((len(pages), DIGEST), np.uint8)
    found = [blake3(data[place * PAGE : place * PAGE + PAGE]).digest() for place in np.flatnonzero(filled).tolist()]
    digests[filled] = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, DIGEST)
    return digests


def different(left: Digests, right: Digests) -> NDArray[np.bool_]:
    """Return a mask of the rows in which two arrays of digests differ."""
    found: NDArray[np.bool_] = np.any(left != right, axis=1)
    return found


def part_root(size: int, lists: Iterable[bytes | memoryview]) -> bytes:
    """Return the digest of a part.

    Args:
        size: the part's size in bytes.
        lists: the digests of all pages of the part in order, in pieces of any length.
    """
    hasher = blake3(size.to_bytes(8, "little"), derive_key_context=_PART)
    for piece in lists:
        hasher.update(piece)
    return hasher.digest()


def runs(numbers: Numbers) -> list[tuple[int, int, int]]:
    """Return the runs of consecutive page numbers, each as its index in `numbers`, its first page and its length in pages.

    Args:
        numbers: page numbers in any order.
    """
    if not len(numbers):
        return []
    ends = np.flatnonzero(numbers[1:] - numbers[:-1] != 1) + 1
    if not len(ends):
        return [(0, int(numbers[0]), len(numbers))]
    starts = np.concatenate(([0], ends))
    lengths = np.diff(np.concatenate((starts, [len(numbers)])))
    return list(zip(starts.tolist(), numbers[starts].tolist(), lengths.tolist(), strict=True))
