"""Encodes a plan of pages as the bytes of a segment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet import sparse
from atoll.cloudlet.classify import PagePlan
from atoll.cloudlet.segment import CHANGED, FROM_BASE, Segment, is_filled, pack


@dataclass(frozen=True)
class Job:
    """The description of a segment that is to be made.

    Attributes:
        plan: the pages of the segment, and the way in which each gets its content.
        file: the guest's file of the part.
        base: the base's file of the same part; `None` if the base has no such part.
        level: the compression level for zstd.
    """

    plan: PagePlan
    file: Path
    base: Path | None
    level: int


def compress(job: Job) -> bytes:
    """Make a segment, and return it as compressed bytes.

    Raises:
        OSError: a file can't be read.
    """
    plan = job.plan
    filled = is_filled(plan.kinds)
    content = _pick(job.file, plan, filled)
    changed = plan.kinds == CHANGED
    if job.base is not None and changed.any():
        content[changed[filled]] ^= _pick(job.base, plan, changed)
    return pack(Segment(plan.part, plan.kinds, plan.pages, plan.sources[plan.kinds >= FROM_BASE], content), job.level)


def _pick(path: Path, plan: PagePlan, chosen: NDArray[np.bool_]) -> sparse.Pages:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sparse.pick(descriptor, plan.pages[chosen])
    finally:
        os.close(descriptor)
