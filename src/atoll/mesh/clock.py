"""Hybrid logical clocks: stamps that follow the time of day where it can be trusted, and causality where it can't.

Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", OPODIS 2014. A stamp is one integer: milliseconds since 1970,
shifted by 16 bits, and a counter in the low bits. The counter runs over into the milliseconds, which only makes the clock run ahead.
"""

from __future__ import annotations

from collections.abc import Callable

COUNTER_BITS = 16

MAX_AHEAD_MS = 24 * 3600 * 1000
"""Stamps further ahead of the local clock are not believed: one hostile stamp would take every site's clock along for ever. A site may
have its clock wrong by hours and still be heard."""


def ms_of(stamp: int) -> int:
    """Milliseconds since 1970 of a stamp."""
    return stamp >> COUNTER_BITS


class HybridClock:
    """The clock of one site."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """A clock that has seen nothing.

        Args:
            now_ms: the time of day, milliseconds since 1970; it may be wrong, and may go backwards.
        """
        self._now_ms = now_ms
        self._last = 0
        self._floor_ms = 0

    def tick(self) -> int:
        """A new stamp, greater than all that were given out or observed."""
        self._last = max(self._now_ms() << COUNTER_BITS, self._last + 1)
        return self._last

    def observe(self, stamp: int) -> None:
        """Take note of another's stamp: the next tick comes after it."""
        self._last = max(self._last, stamp)

    def restore(self, stamp: int) -> None:
        """Take note of what was kept on disk: a machine that has forgotten the date still believes what lies before it."""
        self.observe(stamp)
        self._floor_ms = max(self._floor_ms, ms_of(stamp))

    def believes(self, stamp: int) -> bool:
        """Whether a stamp is not further in the future than clocks may be apart (`MAX_AHEAD_MS`)."""
        return ms_of(stamp) <= max(self._now_ms(), self._floor_ms) + MAX_AHEAD_MS
