"""Claims on hidden names: only one command at a time makes a file or directory; after a killed command, the next one takes over."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from atoll.cloudlet.guarded import open_regular, require_own
from atoll.cloudlet.image import refuse_existing
from atoll.errors import AtollError
from atoll.files import flush


def claim(path: Path, descriptor: int) -> None:
    """Lock an open file or directory, until it is closed.

    Args:
        path: the name of the file or directory.
        descriptor: the open descriptor of the file or directory.

    Raises:
        AtollError: `cloudlet.busy`: another command has locked the file or directory, or has just renamed it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = os.path.samestat(os.fstat(descriptor), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        kept = False
    if not kept:
        raise AtollError(
            "cloudlet.busy", f"another command is making {path} now", "wait until it has ended, or give another name"
        ) from None


@contextmanager
def claimed_directory(path: Path) -> Iterator[None]:
    """Make a directory that only its owner can use, or take over the one that a killed command has left; lock it while the context lasts.

    Args:
        path: the name of the directory.

    Raises:
        AtollError: as for `claim`; `cloudlet.unusable`: another user has made the directory, or can write to it.
        OSError: the directory can't be made.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        require_own(path, descriptor)
        claim(path, descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory with a hidden name, which the caller renames to `target`; an exception deletes it.

    Args:
        target: the final name of the directory.

    Raises:
        AtollError: as for `claimed_directory`.
        OSError: the directory can't be made.
    """
    made = target.with_name(f".{target.name}.new")
    with claimed_directory(made):
        try:
            for path in made.iterdir():
                path.unlink()
            yield made
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Yield a file to write. When the context ends, the file is flushed to the disk and gets its name; an exception deletes it.

    Args:
        target: the final name of the file.

    Raises:
        AtollError: `cloudlet.exists`: `target` exists already; `cloudlet.busy`: as for `claim`; `cloudlet.unusable`: another user has
            created a file with its hidden name.
        OSError: the file can't be written.
    """
    made = target.with_name(f".{target.name}.new")
    with os.fdopen(open_regular(made, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW), "r+b") as file:
        require_own(made, file.fileno(), alone=True)
        claim(made, file.fileno())
        try:
            file.truncate()
            yield file
            file.flush()
            os.fsync(file.fileno())
            refuse_existing(target)
            made.rename(target)
            flush(target.parent)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
