"""Keeps a fork server's pages shared with its children.

A page that a child writes to is copied for it. Three kinds of writes copied most of what children could have shared; each has its remedy
here, which a fork server applies after it has imported its program and before it forks:

- **Reference counts.** Each use of an object writes to its reference count. CPython 3.12 and 3.13 leave the count of an immortal object
  alone (PEP 683), so all objects that exist by then are made immortal (`immortalize`): some 120 MB less for each site, of 407.
- **Holes in Python's allocator**, which imports leave behind. A child would put its own objects into them, next to shared ones. They are
  filled (`fill_holes`), so that a child's objects lie together on pages of their own.
- **Holes in the C library's allocator**, which holds everything that is larger than 512 bytes. They are filled as well
  (`fill_heap`): 40 MB less.

Threads take memory from one heap (`share_heap`): the sixteen of a service would else leave holes in as many.

Sources: CPython's Include/object.h, Objects/obmalloc.c (whose `sys._debugmallocstats` tells the free blocks of each size class) and
Python/gc.c; glibc's malloc/malloc.c.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from types import CodeType
from typing import Any

_SIZE_CLASS = re.compile(rb"^\s*\d+\s+(\d+)\s+\d+\s+\d+\s+(\d+)\s*$", re.MULTILINE)
"""A row of the table: class, size in bytes, pools, blocks in use, blocks that are free."""

_BYTES_HEADER = sys.getsizeof(b"")

_fillers: list[bytes] = []

_IMMORTAL = 0xFFFF_FFFF
"""The lower half of an immortal object's reference count in CPython 3.12 and 3.13 (`_Py_IMMORTAL_REFCNT`)."""

_BATCH = 20_000
"""Objects that are looked at together; higher takes more memory for a moment."""

_CODE_PARTS = ("co_consts", "co_names", "co_name", "co_qualname", "co_filename", "co_linetable", "co_exceptiontable")
"""The objects of a code object, which the collector doesn't tell."""

_M_ARENA_MAX = -8
"""glibc's number for the most heaps that a process may have (malloc.h)."""

_CHUNKS = (*(1 << power for power in range(16, 10, -1)), *range(1032, 0, -16))
"""Sizes by which the heap is filled, in bytes: the largest first, then each size that glibc has a list of its own for."""


def share_heap() -> None:
    """Have all threads of this process and its children take memory from one heap.

    glibc gives each thread a heap of its own, up to eight times as many as there are cores, and each heap keeps the most that its thread
    needed at once. Python's threads take turns, so they hardly ever wait for one another here.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 1)


def immortalize() -> int:
    """Make every object immortal that the collector can reach, for as long as this process and its children live.

    An immortal object is never freed, which costs nothing here: its memory is the fork server's. CPython's header promises correct
    execution for objects that are made immortal at run time, also with extension modules that know nothing of immortality, and its
    collector leaves them out. Objects that were frozen before (`gc.freeze`) are not looked at again.

    Strings are hashed as well, for they keep their hash, and whoever looks one up first would write it.

    Returns:
        The number of objects; 0 if this interpreter has no immortal objects, or represents them in another way.
    """
    if not _knows_immortality():
        return 0
    # All of memory as one array: a hundred nanoseconds for each count instead of half a microsecond.
    counts = (ctypes.c_uint32 * (1 << 45)).from_address(0)
    pending = gc.get_objects()
    number = 0
    while pending:
        found: dict[int, Any] = {}
        for start in range(0, len(pending), _BATCH):
            batch = pending[start : start + _BATCH]
            for each in batch:
                counts[id(each) >> 2] = _IMMORTAL
                if type(each) is str or type(each) is bytes:
                    hash(each)
            parts = _parts(batch)
            found.update(zip(map(id, parts), parts, strict=True))
        number += len(pending)
        pending = [each for address, each in found.items() if counts[address >> 2] != _IMMORTAL]
    return number


def _knows_immortality() -> bool:
    """Compare what an object that CPython itself makes immortal looks like; nothing but 64 bits, a lock and a release build is known."""
    return (
        sys.version_info[:2] in {(3, 12), (3, 13)}
        and sys.maxsize > 1 << 32
        and sys.byteorder == "little"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "gettotalrefcount")
        and ctypes.c_ssize_t.from_address(id(None)).value == _IMMORTAL
    )


def _parts(objects: Iterable[Any]) -> list[Any]:
    """What objects refer to: what the collector tells, the keys of dictionaries, and the parts of code."""
    parts = gc.get_referents(*objects)
    for each in objects:
        kind = type(each)  # not `isinstance`: that asks the object, and a proxy may do anything then
        if kind is CodeType:
            parts.extend(getattr(each, name) for name in _CODE_PARTS)
        elif issubclass(kind, dict):
            parts.extend(dict.keys(each))
    return parts


def fill_holes() -> int:
    """Fill the free blocks of the pools in use, for as long as this process and its children live.

    Returns:
        how many bytes were filled.
    """
    filled = 0
    for size, free in _free_blocks():
        if size >= _BYTES_HEADER:
            _fillers.extend(bytes(size - _BYTES_HEADER) for _ in range(free))
            filled += size * free
    return filled


def _free_blocks() -> list[tuple[int, int]]:
    """Size and number of the free blocks of each size class."""
    report = os.memfd_create("mallocstats")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(report, 2)
        sys._debugmallocstats()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    os.lseek(report, 0, os.SEEK_SET)
    with os.fdopen(report, "rb") as file:
        return [(int(size), int(free)) for size, free in _SIZE_CLASS.findall(file.read())]


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = (*((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        ("used", ctypes.c_size_t), ("free", ctypes.c_size_t), ("top", ctypes.c_size_t))  # fmt: skip


def fill_heap() -> int:
    """Fill the free chunks below the top of the C library's heap, for as long as this process and its children live.

    Pages that are free as a whole are given back to the kernel before. Only one thread may run.

    Returns:
        The number of bytes that were filled; 0 if the C library is not glibc 2.33 or later.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _MallocInfo
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.sbrk.argtypes, library.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.malloc_trim(0)
    before = library.mallinfo2()
    top = library.sbrk(0) - before.top
    above = []
    for size in _CHUNKS:
        while (chunk := library.malloc(size)) and chunk < top:
            pass
        above.append(chunk)
    for chunk in above:
        library.free(chunk)
    return int(before.free - before.top)
