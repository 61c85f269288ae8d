"""Log lines that others can cause: each is wanted, a flood of them is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

BURST = 20
"""Lines at once; then one a second."""


class LimitedLog:
    """Passes so many lines on, and counts the others.

    Args:
        logger: where they go.
        now: seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now = now
        self._left = float(BURST)
        self._at = now()
        self._held_back = 0

    def warning(self, message: str, *values: object) -> None:
        """Log it, or count it."""
        now = self._now()
        self._left = min(BURST, self._left + now - self._at)
        self._at = now
        if self._left < 1:
            self._held_back += 1
            return
        self._left -= 1
        if self._held_back:
            self._logger.warning("%d lines like the next one were held back", self._held_back)
            self._held_back = 0
        self._logger.warning(message, *values)
