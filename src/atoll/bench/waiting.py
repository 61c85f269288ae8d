"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable

from atoll.bench.failure import failed


def wait_until(check: Callable[[], bool], what: str, timeout_s: float, interval_s: float = 0.1) -> None:
    """Wait until a condition holds.

    Args:
        check: tests the condition; an exception ends the waiting.
        what: a description of the condition for the error message.
        timeout_s: seconds to wait.
        interval_s: seconds between two tests.

    Raises:
        AtollError: `bench.failed`: the condition did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise failed(f"{what}: not true after {timeout_s:.0f} s")
        time.sleep(interval_s)
