"""Recent steps of this machine's clock, with which the times of earlier heartbeats are corrected."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock

MIN_STEP_S = 1.0
"""Least change of the clock relative to the monotonic clock, in seconds, that is treated as a step."""


class ClockSteps:
    """The steps of this machine's clock that calls of `since` have noticed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._distance = time.time() - time.monotonic()
        self._set: deque[tuple[float, float]] = deque()

    def since(self, seconds: float) -> list[float]:
        """Return the size of each recent step of the clock.

        Args:
            seconds: the length of the period.

        Returns:
            Seconds, one value for each step in the period; negative if the clock was set back.
        """
        with self._lock:
            now, distance = time.monotonic(), time.time() - time.monotonic()
            if abs(distance - self._distance) >= MIN_STEP_S:
                self._set.append((now, self._distance))
            self._distance = distance
            while self._set and self._set[0][0] < now - seconds:
                self._set.popleft()
            return [distance - before for _, before in self._set]
