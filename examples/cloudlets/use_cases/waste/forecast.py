"""The forecast of a bin's fill level: an exponential mean of its increments since it was last emptied, with their spread.

A reading that is lost does no harm: the increment to the next one belongs to the longer time between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, inf, sqrt

WEIGHT = 0.12
"""Weight of the newest day in the mean; a shorter time weighs less."""
EMPTIED = 0.15
"""Fall of a level from which on a bin was emptied; a smaller one is the sensor's error."""
FULL = 0.8
"""Level at which a bin ought to be emptied."""


@dataclass
class Forecast:
    """The forecast of one bin.

    Attributes:
        rate: the mean increment of a day.
        variance: the variance of a day's increment.
        level: the newest reading.
        at: the day of the newest reading, with its fraction; minus infinity before the first.
    """

    rate: float = 0.15
    variance: float = 0.01
    level: float = 0.0
    at: float = -inf

    def observe(self, at: float, level: float) -> None:
        """Take a reading.

        Args:
            at: its day, with the fraction. Readings that are not newer than the newest are ignored.
            level: the level.
        """
        passed = at - self.at
        if passed <= 0:
            return
        if passed < inf and level > self.level - EMPTIED:
            increment = max(level - self.level, 0.0)
            weight = 1 - (1 - WEIGHT) ** passed
            error = increment - self.rate * passed
            self.rate += weight * (increment / passed - self.rate)
            self.variance += weight * (error**2 / passed - self.variance)
        self.level, self.at = level, at

    def expected(self, at: float) -> float:
        """Return the level that is expected at a day."""
        return self.level + self.rate * max(at - self.at, 0.0) if self.at > -inf else 1.0

    def risk(self, at: float, threshold: float = FULL) -> float:
        """Return the probability that the level is at least a threshold at a day; 1 for a bin that never sent a reading."""
        if self.at == -inf:
            return 1.0
        spread = sqrt(max(self.variance, 1e-4) * max(at - self.at, 0.0)) + 0.01
        return 0.5 * (1 + erf((self.expected(at) - threshold) / (spread * sqrt(2))))
