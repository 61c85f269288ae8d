"""Reads and writes sparse files in whole pages."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import numpy as np

from atoll.cloudlet.pages import PAGE, Numbers, Pages, as_bytes, runs
from atoll.files import data_ranges

_WORDS = PAGE // 8
_FICLONE = 0x40049409  # ioctl of linux/fs.h: share another file's content, on file systems that support it (XFS, Btrfs)


def extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that may hold data, each as its first page and the page after its last.

    Args:
        descriptor: the open file.
        size: the file's size in bytes.
    """
    for start, end in data_ranges(descriptor, size):
        yield start // PAGE, -(-end // PAGE)


def union(*files: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pages at which any of several files may hold data, as disjoint ranges in order.

    Args:
        files: the descriptor and the size in bytes of each file.
    """
    found: list[tuple[int, int]] = []
    for start, end in sorted(extent for descriptor, size in files for extent in extents(descriptor, size)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def chunks(ranges: list[tuple[int, int]], pages: int) -> list[tuple[int, int]]:
    """Cut ranges of pages into pieces of at most `pages` pages."""
    return [(first, min(first + pages, end)) for start, end in ranges for first in range(start, end, pages)]


def read(descriptor: int, first: int, pages: int) -> Pages:
    """Return `pages` pages of a file from page `first`; pages after the file's end are zeros.

    Raises:
        OSError: the file can't be read.
    """
    found = np.empty((pages, _WORDS), dtype=np.uint64)
    _read_into(descriptor, first, found)
    return found


def pick(descriptor: int, numbers: Numbers) -> Pages:
    """Return the pages with the given numbers; pages after the file's end are zeros.

    Raises:
        OSError: the file can't be read.
    """
    found = np.empty((len(numbers), _WORDS), dtype=np.uint64)
    for place, first, pages in runs(numbers):
        _read_into(descriptor, first, found[place : place + pages])
    return found


def _read_into(descriptor: int, first: int, pages: Pages) -> None:
    view, offset = as_bytes(pages), first * PAGE
    while view:
        got = os.preadv(descriptor, [view], offset)
        if got == 0:
            view[:] = bytes(len(view))
            return
        view, offset = view[got:], offset + got


def write(descriptor: int, numbers: Numbers, content: Pages, size: int) -> None:
    """Write pages of a file; a page beyond the file's size is cut off there.

    Args:
        descriptor: the open file.
        numbers: the numbers of the pages.
        content: the pages.
        size: the file's size in bytes.

    Raises:
        OSError: the file can't be written.
    """
    for place, first, pages in runs(numbers):
        offset = first * PAGE
        view = as_bytes(content[place : place + pages])[: size - offset]
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written


def clone(source: int, target: int) -> bool:
    """Share the content of a file with an empty one, if the file system can.

    Returns:
        True if the content is shared; False if the file system can't share it, so that the target is unchanged.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
