"""Finds the pages in which a file differs from the same part of a base, and their digests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet import sparse
from atoll.cloudlet.pages import DIGEST, PAGE, Digests, Numbers, hash_pages

CHUNK = 256
"""Number of pages that are compared at a time: 1 MiB, which fits into the processor's cache."""

ALIKE = 256
"""Least number of 8-byte words, of 512, that a page must share with the base's page of the same number to be sent as the difference."""


@dataclass(frozen=True)
class PageChanges:
    """Pages of a part that differ from the base.

    Attributes:
        pages: the numbers of the pages, in order.
        digests: the digests of the pages.
        alike: a mask of the pages whose difference from the base's page is likely to compress better than the page itself.
    """

    pages: Numbers
    digests: Digests
    alike: NDArray[np.bool_]


@dataclass(frozen=True)
class Ranges:
    """A piece of work: ranges of pages of one part, to be compared with the base.

    Attributes:
        part: the part's name.
        file: the guest's file of the part.
        base: the base's file of the part; `None` if the base has no such part.
        ranges: the first page of each range and the page after its last, in order.
    """

    part: str
    file: Path
    base: Path | None
    ranges: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """The number of bytes to compare."""
        return sum(end - first for first, end in self.ranges) * PAGE


def split(part: str, file: Path, base: Path | None, pages: int) -> list[Ranges]:
    """Divide the work of comparing a part with a base into pieces of at most `pages` pages, and return the pieces.

    Pages that are holes in both files are left out.

    Args:
        part: the part's name.
        file: the guest's file of the part.
        base: the base's file of the part; `None` if the base has no such part.
        pages: the greatest number of pages of a piece.

    Raises:
        OSError: a file can't be read.
    """
    paths = [path for path in (file, base) if path is not None]
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    try:
        sizes = [os.lseek(descriptor, 0, os.SEEK_END) for descriptor in descriptors]  # `fstat` reports size 0 for block devices
        end = -(-sizes[0] // PAGE)
        found = sparse.union(*((descriptor, min(sizes[0], size)) for descriptor, size in zip(descriptors, sizes, strict=True)))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    fragments = sparse.chunks([(first, min(last, end)) for first, last in found], CHUNK)
    return [Ranges(part, file, base, tuple(group)) for group in _grouped(fragments, pages)]


def scan(work: Ranges) -> PageChanges:
    """Compare ranges of a part with a base.

    Raises:
        OSError: a file can't be read.
    """
    file = os.open(work.file, os.O_RDONLY | os.O_CLOEXEC)
    base = os.open(work.base, os.O_RDONLY | os.O_CLOEXEC) if work.base else None
    try:
        return join([_compare(file, base, group) for group in _grouped(work.ranges, CHUNK)])
    finally:
        os.close(file)
        if base is not None:
            os.close(base)


def join(pieces: list[PageChanges]) -> PageChanges:
    """Return the changes of several ranges as one."""
    if not pieces:
        return PageChanges(np.empty(0, np.uint32), np.empty((0, DIGEST), np.uint8), np.empty(0, np.bool_))
    return PageChanges(
        np.concatenate([piece.pages for piece in pieces]),
        np.concatenate([piece.digests for piece in pieces]),
        np.concatenate([piece.alike for piece in pieces]),
    )


def _grouped(ranges: Iterable[tuple[int, int]], pages: int) -> Iterator[list[tuple[int, int]]]:
    """Divide a list of ranges into groups; a group ends with the range by which it reaches `pages` pages."""
    group: list[tuple[int, int]] = []
    size = 0
    for first, end in ranges:
        group.append((first, end))
        size += end - first
        if size >= pages:
            yield group
            group, size = [], 0
    if group:
        yield group


def _compare(file: int, base: int | None, ranges: list[tuple[int, int]]) -> PageChanges:
    numbers = np.concatenate([np.arange(first, end, dtype=np.uint32) for first, end in ranges])
    new = sparse.pick(file, numbers)
    if base is None:
        places = np.flatnonzero(new.any(axis=1))
        alike = np.zeros(len(places), dtype=np.bool_)
    else:
        old = sparse.pick(base, numbers)
        equal = new == old
        places = np.flatnonzero(~equal.all(axis=1))
        alike = (np.count_nonzero(equal[places], axis=1) >= ALIKE) & old[places].any(axis=1)
    return PageChanges(numbers[places], hash_pages(new[places]), alike)
