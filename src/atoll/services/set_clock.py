"""Changes of the clock of late: heartbeats of before are dated by the clock as it went then."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock

SET_S = 1.0
"""A clock that differs by less from a steady one has not been set."""


class SetClock:
    """When this machine's clock was set, and by how much, as far as it was looked at."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._distance = time.time() - time.monotonic()
        self._set: deque[tuple[float, float]] = deque()

    def since(self, seconds: float) -> list[float]:
        """Seconds by which the clock is ahead of what it would show had it not been set, for each time that it was in the last seconds."""
        with self._lock:
            now, distance = time.monotonic(), time.time() - time.monotonic()
            if abs(distance - self._distance) >= SET_S:
                self._set.append((now, self._distance))
            self._distance = distance
            while self._set and self._set[0][0] < now - seconds:
                self._set.popleft()
            return [distance - before for _, before in self._set]
