"""An event loop whose clock stands still while other processes have the processor.

All hollow members share one processor with whatever else the machine does. A second of the loop's clock is a second in which this process
worked, or waited for a timer or a message. So a busy machine does not make members look slow, and one processor works for all of them: for
one of them at a time, where real members work at once.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any


class _Selector(selectors.DefaultSelector):
    """A selector that reports the time.

    Attributes:
        now: the processor time of this process and the time that was waited or skipped, in seconds, when `select` was last called. It does
            not change within a round of the event loop: asking the kernel at each call took a quarter of an experiment's time.
        hurry: skip the time until the next timer, instead of waiting for it, if no descriptor is ready.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waited_s = 0.0
        self.hurry = False
        self.now = time.process_time()

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            if self.hurry and timeout is not None:
                self._waited_s += timeout
            else:
                begun = time.monotonic()
                ready = super().select(timeout)
                waited = time.monotonic() - begun
                self._waited_s += waited if timeout is None else min(waited, timeout)
        self.now = time.process_time() + self._waited_s
        return ready


class FairLoop(asyncio.SelectorEventLoop):
    """The event loop. Its time is the processor time of this process and the time that it has waited."""

    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Return the time in seconds."""
        return self._waits.now

    def hurry(self, *, yes: bool) -> None:
        """Skip the waits for timers from now on, or wait for them again.

        While threads or sockets have work for the loop, it should not skip: they do not know its clock.
        """
        self._waits.hurry = yes
