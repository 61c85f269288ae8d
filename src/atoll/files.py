"""Directories and files for their owner alone, written whole or not at all, and on the disk when a function returns.

Files that a user names are read here too, within bounds.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PIECE = 1 << 20


def make_directory(path: Path) -> None:
    """Create a directory for its owner alone, and its parents."""
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for each in new:
        flush(each.parent)


def flush(path: Path) -> None:
    """Flush a file's content, or a directory's names, to the disk.

    Raises:
        OSError: the path does not exist, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """Flush a directory and everything in it to the disk, but not the directory's own name.

    Raises:
        OSError: as for `flush`.
    """
    for path in (*directory.rglob("*"), directory):
        flush(path)


def write_private(path: Path, text: str, *, durable: bool = True) -> bool:
    """Write a file for its owner alone, whole or not at all.

    Args:
        path: the file, in an existing directory.
        text: the file's content.
        durable: flush it to the disk. Without this, a loss of power may leave an empty file.

    Returns:
        False if the file had this content already.

    Raises:
        OSError: the file can't be written, and is unchanged.
    """
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return False
    temporary = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            flush(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return True


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; pipes and devices, which may never end, are refused without being read.

    Args:
        path: the file; links are followed.
        max_bytes: the largest number of bytes that is expected.

    Returns:
        The content; of a longer file, one byte more than was expected.

    Raises:
        OSError: the file can't be read, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = bytearray()
        while len(content) <= max_bytes and (piece := file.read(min(_PIECE, max_bytes + 1 - len(content)))):
            content += piece
    return bytes(content)


def data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that may hold data, each as its first byte and the byte after its last; the rest are holes.

    Args:
        descriptor: the open file.
        size: the file's size in bytes.
    """
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # the rest of the file is a hole
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
