"""Hybrid logical clocks: stamps that follow the time of day where it can be trusted, and causality where it can't.

Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", OPODIS 2014. A stamp is one integer: the milliseconds since 1970,
shifted by 16 bits, and a counter in the low bits. The counter overflows into the milliseconds, which only makes the clock run ahead.
"""

from __future__ import annotations

from collections.abc import Callable

COUNTER_BITS = 16

MAX_AHEAD_MS = 24 * 3600 * 1000
"""The greatest accepted distance of a stamp ahead of the local clock, in milliseconds: one hostile stamp would advance every site's
clock for ever. A site whose clock is wrong by hours is still accepted."""


def ms_of(stamp: int) -> int:
    """Return the milliseconds since 1970 of a stamp."""
    return stamp >> COUNTER_BITS


class HybridClock:
    """The hybrid clock of one site."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Start a clock that has observed no stamp.

        Args:
            now_ms: the time of day in milliseconds since 1970; it may be wrong, and may go backwards.
        """
        self._now_ms = now_ms
        self._last = 0
        self._floor_ms = 0

    def tick(self) -> int:
        """Return a new stamp, greater than all that were issued or observed."""
        self._last = max(self._now_ms() << COUNTER_BITS, self._last + 1)
        return self._last

    def observe(self, stamp: int) -> None:
        """Record another site's stamp: the next tick comes after it."""
        self._last = max(self._last, stamp)

    def restore(self, stamp: int) -> None:
        """Record a stamp from the disk, so that a machine that has lost its date still accepts the stamps before this one."""
        self.observe(stamp)
        self._floor_ms = max(self._floor_ms, ms_of(stamp))

    def accepts(self, stamp: int) -> bool:
        """Return whether a stamp is not further ahead than clocks may differ (`MAX_AHEAD_MS`)."""
        return ms_of(stamp) <= max(self._now_ms(), self._floor_ms) + MAX_AHEAD_MS
