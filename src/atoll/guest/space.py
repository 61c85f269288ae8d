"""A check of free space before a build, so that a full disk gives one clear error instead of different failures of programs."""

from __future__ import annotations

import shutil
from pathlib import Path

from atoll.errors import AtollError

LEAST_FREE_BYTES = 200_000_000
"""Bytes on the disk that a build needs: a package with a kernel (27 MB), its content (108 MB), the guest's files, and the image."""


def check(directory: Path) -> None:
    """Check that a directory has enough free space to build an image.

    Args:
        directory: the directory of the build.

    Raises:
        AtollError: `state.space`: less than `LEAST_FREE_BYTES` are free there.
    """
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        message = f"{directory}: {free // 10**6} MB free: expected at least {LEAST_FREE_BYTES // 10**6} MB to build the guest image"
        raise AtollError("state.space", message, "free some space, or use another file system with XDG_CACHE_HOME")
