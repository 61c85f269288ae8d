"""Space to work in: without it programs would fail half-way, each with words of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from atoll.errors import AtollError

LEAST_FREE_BYTES = 200_000_000
"""What a build takes at most, for a while: a Debian package with a kernel (27 MB), what it holds (108 MB), the guest's system, its disk."""


def check(directory: Path) -> None:
    """Make sure that an image can be made.

    Args:
        directory: where it is made.

    Raises:
        AtollError: `state.space`.
    """
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        message = f"{directory}: {free // 10**6} MB free: expected at least {LEAST_FREE_BYTES // 10**6} MB to make the guest image in"
        raise AtollError("state.space", message, "free some space, or use another file system with XDG_CACHE_HOME")
