"""Holes in a fork server's memory are filled, so that its children write elsewhere."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, sys
from atoll.runtime import memory
litter = [bytes(size) for size in range(1, 400) for _ in range(200)]
del litter[::2]
gc.collect()
before = sum(size * free for size, free in memory._free_blocks())
filled = memory.fill_holes()
after = sum(size * free for size, free in memory._free_blocks())
print(before, filled, after)
"""


def test_most_of_the_holes_are_filled() -> None:
    """In a process of its own: the holes of this one are nobody's business."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, filled, after = map(int, done.stdout.split())
    assert before > 1_000_000
    assert filled > 0.8 * before
    assert after < 0.2 * before
    assert done.stderr == "", "the report of the allocator stays out of the log"
