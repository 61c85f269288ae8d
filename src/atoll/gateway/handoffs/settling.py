"""Attempts to continue hand-offs in the background: several at the same time, each within a time limit, and repeated with a back-off.

An attempt may be cancelled at any moment, because each step of a hand-off is recorded before its effect. An attempt that waits for a site
or a service does not delay the others. An unexpected error in one attempt ends neither the others nor the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Set

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.request.call import Unreachable

LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Greatest number of attempts that are carried out at the same time."""

ATTEMPT_S = 400.0
"""Seconds after which an attempt is cancelled; longer than the sum of the waits for Nova and for another gateway in one step."""

FIRST_PAUSE_S = 5.0
"""Seconds between a failed attempt and the next; doubled after each further failure."""

MOST_PAUSE_S = 60.0
"""Greatest number of seconds between two attempts."""


class Settling:
    """The attempts for the hand-offs of one direction, from or to this site.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, tuple[float, float]] = {}  # the time of the next attempt, and the seconds before it

    def busy(self, identifier: str) -> bool:
        """Return whether an attempt to continue a hand-off is under way."""
        return identifier in self._tasks

    def begin(self, identifier: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Begin an attempt, unless one is under way or the last one failed a short time ago.

        Args:
            identifier: the id of the hand-off.
            attempt: continues the hand-off.
        """
        if identifier in self._tasks or self._pauses.get(identifier, (0.0, 0.0))[0] > self._clock():
            return
        task = self._tasks[identifier] = asyncio.get_running_loop().create_task(self._carry_out(identifier, attempt))
        task.add_done_callback(lambda _done: self._tasks.pop(identifier, None))

    def keep(self, identifiers: Set[str]) -> None:
        """Keep the back-off of these hand-offs, and drop that of all others."""
        self._pauses = {each: pause for each, pause in self._pauses.items() if each in identifiers}

    async def stop(self) -> None:
        """Cancel the attempts that are under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, identifier: str, attempt: Callable[[], Awaitable[None]]) -> None:
        async with self._turns:
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    await attempt()
            except (Unreachable, HandoffRefused) as error:
                LOG.info("hand-off %s can't be settled now: %s", identifier, error)
            except TimeoutError:
                LOG.warning("hand-off %s could not be settled within %.0f s", identifier, ATTEMPT_S)
            except Exception:  # other attempts must continue
                LOG.exception("hand-off %s can't be settled", identifier)
            else:
                self._pauses.pop(identifier, None)
                return
        pause = min(2 * self._pauses.get(identifier, (0.0, FIRST_PAUSE_S / 2))[1], MOST_PAUSE_S)
        self._pauses[identifier] = self._clock() + pause, pause
