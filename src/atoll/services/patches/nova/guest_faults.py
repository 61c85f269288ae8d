"""One-line reasons why a guest cannot start, as the fault of its server.

Upstream's fault is the whole report of a failed program, in several lines, of which Nova keeps 255 characters. Upstream notices a full
disk only when it is full: then not even its database can record the fault.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nova import exception
from nova.conf import CONF
from oslo_concurrency.processutils import ProcessExecutionError

from atoll.services.nova.synthesis.overlays import OverlayRefusal
from atoll.services.patches.nova.image_check import BrokenImage, LargeImage

LEAST_FREE_BYTES = 100_000_000
"""Bytes that must be free on the file system of guests' disks to start a guest; the site's databases are mostly on the same one."""

_FULL = "No space left on device"


def check_space(directory: Path) -> None:
    """Check that another guest has space.

    Args:
        directory: the directory of guests' disks.

    Raises:
        OSError: the file system is nearly full (ENOSPC).
    """
    if shutil.disk_usage(directory).free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, _FULL, str(directory))


def reason(error: BaseException) -> str:
    """Return in one line why a guest could not start.

    Args:
        error: the exception that the driver raised.
    """
    causes = tuple(_causes(error))
    if any(_is_full(cause) for cause in causes):
        free = shutil.disk_usage(CONF.instances_path).free // 10**6
        return f"the disk is full: {free} MB free in {CONF.instances_path}: a guest needs {LEAST_FREE_BYTES // 10**6} MB besides its own"
    for cause in causes:
        if isinstance(cause, BrokenImage | LargeImage | OverlayRefusal):
            return _text(cause)
        if isinstance(cause, exception.SocketPortRangeExhaustedException):
            return f"no port of {CONF.serial_console.port_range} is free for its serial console"
        if isinstance(cause, ProcessExecutionError):
            program = str(cause.cmd).partition(" ")[0].rpartition("/")[2]
            return _last_line(cause.stderr) or f"{program} failed with exit code {cause.exit_code}"
    return " ".join(_text(error).split())


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_full(cause: BaseException) -> bool:
    return _FULL in _text(cause) or getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _text(error: Any) -> str:
    return error.format_message() if isinstance(error, exception.NovaException) else str(error)


def _last_line(text: str | None) -> str:
    """Return the last line of a program's output, which usually states the reason."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""
