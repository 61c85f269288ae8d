"""A fair lock between threads, with the number of threads that wait for it."""

from __future__ import annotations

import threading
import time
from collections import deque


class FairLock:
    """A lock that threads get in the order in which they asked for it."""

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._queue: deque[threading.Event] = deque()
        self._held = False
        self._owner: int | None = None

    @property
    def is_mine(self) -> bool:
        """True if the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    @property
    def waiting(self) -> int:
        """Number of threads that wait."""
        return len(self._queue)

    def acquire(self, timeout: float) -> bool:
        """Wait for the lock, at most `timeout` seconds; return whether the thread holds it."""
        with self._guard:
            if not self._held:
                self._held = True
                self._owner = threading.get_ident()
                return True
            mine = threading.Event()
            self._queue.append(mine)
            self._guard.notify()
        if not mine.wait(timeout):
            with self._guard:
                if not mine.is_set():
                    self._queue.remove(mine)
                    return False
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        """Give the lock to the thread that has waited longest."""
        with self._guard:
            self._owner = None
            if self._queue:
                self._queue.popleft().set()
            else:
                self._held = False

    def await_company(self, timeout: float) -> bool:
        """Wait, holding the lock, until another thread asks for it or `timeout` seconds have passed; return whether a thread asked."""
        until = time.monotonic() + timeout
        with self._guard:
            while not self._queue and (left := until - time.monotonic()) > 0:
                self._guard.wait(left)
            return bool(self._queue)
