"""A logger with a rate limit, for lines that clients can cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

BURST = 20
"""Lines that may be logged in one burst; after them, one per second."""


class LimitedLog:
    """Logs lines up to a rate, and counts the others.

    Args:
        logger: the logger of the lines.
        now: returns monotonic seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now = now
        self._left = float(BURST)
        self._at = now()
        self._held_back = 0

    def warning(self, message: str, *values: object) -> None:
        """Log a warning; beyond the rate, only count it."""
        now = self._now()
        self._left = min(BURST, self._left + now - self._at)
        self._at = now
        if self._left < 1:
            self._held_back += 1
            return
        self._left -= 1
        if self._held_back:
            self._logger.warning("suppressed %d lines like the next one", self._held_back)
            self._held_back = 0
        self._logger.warning(message, *values)
