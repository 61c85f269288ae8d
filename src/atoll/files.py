"""Directories and files for their owner alone, written whole or not at all, and on the disk when a function returns."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory for its owner alone, and whatever it is in."""
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for each in new:
        flush(each.parent)


def flush(path: Path) -> None:
    """Have a file's content, or a directory's names, on the disk when this returns.

    Raises:
        OSError: it isn't there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """Have a directory and all that is in it on the disk when this returns; not the directory's own name.

    Raises:
        OSError: as `flush`.
    """
    for path in (*directory.rglob("*"), directory):
        flush(path)


def write_private(path: Path, text: str, *, durable: bool = True) -> bool:
    """Write a file for its owner alone, whole or not at all.

    Args:
        path: the file; its directory exists.
        text: its content.
        durable: have it on the disk when this returns. Without it a loss of power may leave an empty file.

    Returns:
        False if it held that text already.

    Raises:
        OSError: it can't be written, and is what it was.
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
