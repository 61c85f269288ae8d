"""An event loop whose clock gives each member a processor of its own.

All hollow members share one process, and the machine with other processes. Real members work at the same time, each at its own site. So the
loop's clock advances by the processor time of this process divided by the number of members, and by the time for which all members wait.
The clock stands still while other processes use the processor, so the load of the machine does not make members look slow.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any


class _Selector(selectors.DefaultSelector):
    """A selector that reports the time.

    Args:
        members: the number of members that work at the same time.

    Attributes:
        now: the time in seconds when `select` was last called. It does not change within a round of the event loop, because asking the
            kernel at each call took a quarter of an experiment's time.
        hurry: skip the time until the next timer, instead of waiting for it, if no descriptor is ready.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self._members = members
        self._waited_s = 0.0
        self.hurry = False
        self.now = time.process_time() / members

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
        self.now = time.process_time() / self._members + self._waited_s
        return ready


class FairLoop(asyncio.SelectorEventLoop):
    """The event loop. Its time is the processor time of one member, and the time that it has waited.

    Args:
        members: the number of members that work at the same time.
    """

    def __init__(self, members: int = 1) -> None:
        self._waits = _Selector(members)
        super().__init__(self._waits)

    def time(self) -> float:
        """Return the time in seconds."""
        return self._waits.now

    def hurry(self, *, yes: bool) -> None:
        """Skip the waits for timers from now on, or wait for them again.

        While threads or sockets have work for the loop, it should not skip: they do not know its clock.
        """
        self._waits.hurry = yes
