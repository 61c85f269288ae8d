"""Opens files safely in directories where another user may have put a link, a pipe or a file under the expected name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from atoll.errors import AtollError


def open_regular(path: Path, flags: int = os.O_RDONLY, *, device: bool = False) -> int:
    """Open a regular file, and return its descriptor. Refuse a pipe or a terminal, without waiting for a process at its other end.

    Args:
        path: the file's name.
        flags: flags of `os.open`.
        device: whether a block device is accepted too.

    Raises:
        AtollError: `cloudlet.unusable`: the name is not that of a regular file.
        OSError: the file can't be opened.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or (device and stat.S_ISBLK(mode)):
        return descriptor
    os.close(descriptor)
    expected = "a file or a block device" if device else "a file"
    raise AtollError("cloudlet.unusable", f"{path} is not a regular file: expected {expected}", "give the name of a file")


def require_own(path: Path, descriptor: int, *, alone: bool = False) -> None:
    """Refuse an open file or directory of another user, or one to which others may write.

    Args:
        path: the name of the file or directory, for the error.
        descriptor: the open descriptor.
        alone: whether the file is about to be overwritten. If so, it must have no second hard link, but others may be allowed to write to
            it.

    Raises:
        AtollError: `cloudlet.unusable`: the owner, the mode or the number of hard links is wrong.
    """
    found = os.fstat(descriptor)
    shared = found.st_nlink != 1 if alone else bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if found.st_uid != os.geteuid() or shared:
        message = f"{path} belongs to another user, or others can write to it: expected nothing, or a name of your own"
        raise AtollError("cloudlet.unusable", message, "remove it, or give a name in a directory of your own")
