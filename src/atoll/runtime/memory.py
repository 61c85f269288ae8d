"""Preparation of a fork server's memory, so that its children share its pages for as long as possible.

When a child writes to a page, the kernel copies the page for it. Three kinds of writes caused most copies. For each, this module has a
remedy, which a fork server applies after it has imported its program and before it forks:

- **Reference counts.** Each use of an object writes to its reference count. CPython 3.12 and 3.13 do not change the count of an immortal
object
  (PEP 683), so all objects that exist at that time are made immortal (`immortalize`). This saves some 120 MB of 407 MB for each site.
- **Holes in Python's allocator**, which imports leave behind. A child would allocate its objects there, next to shared ones. `fill_holes`
  fills the holes, so that a child's objects lie together on pages of their own.
- **Holes in the C library's allocator**, which holds all blocks larger than 512 bytes. `fill_heap` fills them, which saves 40 MB.

All threads allocate from one heap (`share_heap`). Otherwise the sixteen threads of a service would leave holes in as many heaps.

Sources: CPython's Include/object.h, Objects/obmalloc.c (whose `sys._debugmallocstats` lists the free blocks of each size class) and
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
"""Pattern of a row in the table of `sys._debugmallocstats`: size class, size in bytes, pools, blocks in use, free blocks."""

_BYTES_HEADER = sys.getsizeof(b"")

_fillers: list[bytes] = []

_IMMORTAL = 0xFFFF_FFFF
"""The lower half of an immortal object's reference count in CPython 3.12 and 3.13 (`_Py_IMMORTAL_REFCNT`)."""

_BATCH = 20_000
"""Number of objects that `immortalize` handles at a time; a higher number temporarily needs more memory."""

_CODE_PARTS = ("co_consts", "co_names", "co_name", "co_qualname", "co_filename", "co_linetable", "co_exceptiontable")
"""Attributes of a code object with objects that the garbage collector does not report."""

_M_ARENA_MAX = -8
"""The number of glibc's option for the greatest number of heaps of a process (malloc.h)."""

_CHUNKS = (*(1 << power for power in range(16, 10, -1)), *range(1032, 0, -16))
"""Sizes of the blocks that fill the heap, in bytes: the largest first, then each size for which glibc keeps a free list."""


def share_heap() -> None:
    """Make all threads of this process and its children allocate from one heap.

    By default, glibc has up to eight heaps for each core, and each heap keeps the greatest amount of memory that it ever needed. Only one
    thread of Python runs at a time, so threads hardly ever wait for one another at a shared heap.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 1)


def immortalize() -> int:
    """Make every object immortal that the collector can reach, and return the number of objects.

    An immortal object is never freed. This loses nothing, because its memory belongs to the fork server. CPython's header promises correct
    execution for objects that become immortal at run time, even with extension modules that were built without immortality, and the garbage
    collector skips immortal objects. Objects that were frozen before (`gc.freeze`) are not examined again.

    Strings are hashed as well, because a string stores its hash at the first use, which would be a write in a child.

    Returns:
        0 if this interpreter has no immortal objects, or represents them in another way.
    """
    if not _knows_immortality():
        return 0
    # Treat the whole address space as one array, which takes 100 ns for each count instead of 500 ns.
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
    """Return whether this interpreter represents immortal objects as expected: 64 bits, with the global lock, a release build."""
    return (
        sys.version_info[:2] in {(3, 12), (3, 13)}
        and sys.maxsize > 1 << 32
        and sys.byteorder == "little"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "gettotalrefcount")
        and ctypes.c_ssize_t.from_address(id(None)).value == _IMMORTAL
    )


def _parts(objects: Iterable[Any]) -> list[Any]:
    """Return the objects to which the given ones refer: those that the collector reports, keys of dictionaries, parts of code objects."""
    parts = gc.get_referents(*objects)
    for each in objects:
        kind = type(each)  # `isinstance` would run code of the object, which may be a proxy with side effects
        if kind is CodeType:
            parts.extend(getattr(each, name) for name in _CODE_PARTS)
        elif issubclass(kind, dict):
            parts.extend(dict.keys(each))
    return parts


def fill_holes() -> int:
    """Fill the free blocks of the used pools of Python's allocator, until this process and its children end.

    Returns:
        The number of bytes that were filled.
    """
    filled = 0
    for size, free in _free_blocks():
        if size >= _BYTES_HEADER:
            _fillers.extend(bytes(size - _BYTES_HEADER) for _ in range(free))
            filled += size * free
    return filled


def _free_blocks() -> list[tuple[int, int]]:
    """Return the size in bytes and the number of the free blocks of each size class."""
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
    """The `struct mallinfo2` of glibc."""

    _fields_ = (*((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        ("used", ctypes.c_size_t), ("free", ctypes.c_size_t), ("top", ctypes.c_size_t))  # fmt: skip


def fill_heap() -> int:
    """Fill the free chunks below the top of the C library's heap, until this process and its children end.

    Whole free pages are first returned to the kernel. The process must have only one thread.

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
