"""Functions that make this package's errors; each message is one line of text."""

from __future__ import annotations

import errno
from pathlib import Path

from atoll.errors import AtollError


def invalid(where: str, found: str, expected: str | None = None) -> AtollError:
    """Return the error for a file or a stream with invalid content.

    Args:
        where: the name of the file or stream.
        found: the fault, such as "a damaged header".
        expected: the error's hint: the expected content or the remedy; `None` means no hint.
    """
    return AtollError("cloudlet.invalid", f"{where}: {found}", expected)


def unusable(path: Path | str, error: OSError) -> AtollError:
    """Return the error for a file that the system can't read or write."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        message = f"{path}: no space left on the file system"
        return AtollError("state.space", message, "free some space, or use another file system")
    return AtollError("cloudlet.unusable", f"{path}: {(error.strerror or str(error)).lower()}")
