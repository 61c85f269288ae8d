"""The empty base, and bases with memory as overlays of it.

Glance holds a base of a disk alone as an ordinary image in qcow2. A base with memory has more parts, so it is packed into one file: an
overlay of the *empty base*, an image that is the same everywhere. Such a file is signed and verified like any overlay, a server can be
started from it, and it is also the base of other overlays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from atoll.cloudlet import image
from atoll.cloudlet.base import Report, make_base
from atoll.cloudlet.encode import Task, make_overlay
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.pages import PAGE
from atoll.cloudlet.workers import Workers, suitable

PART = "empty"
"""The only part of the empty base: one page of zeros."""


def make_empty(target: Path) -> bytes:
    """Make the empty base, and return its digest.

    Args:
        target: the directory to make, in an existing directory.

    Raises:
        AtollError: as for `make_base`.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-") as directory:
        page = Path(directory) / PART
        page.write_bytes(bytes(PAGE))
        return make_base({PART: page}, target, "", "", _quiet).digest


def pack(base: Path, target: Path, key: SigningKey, report: Report) -> None:
    """Write a base as an overlay of the empty base.

    Args:
        base: the directory of the base.
        target: the file to write.
        key: the key that signs.
        report: called with the progress.

    Raises:
        AtollError: as for `make_overlay`.
    """
    description = image.describe(base)
    parts = {part.name: base / part.name for part in description.parts}
    with tempfile.TemporaryDirectory(prefix="atoll-") as directory:
        empty = Path(directory) / "base"
        make_empty(empty)
        task = Task(empty, parts, target, cpu=description.cpu or None, machine=description.machine)
        with Workers(suitable(parts.values())) as workers:
            make_overlay(task, key, workers, report)


def _quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore reports of progress."""
