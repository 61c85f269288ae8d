"""A city of 8 by 8 km with bins whose fill levels grow, all made from a seed.

A level is a fraction of the bin's volume; above 1, waste lies beside the bin. Positions are metres east and north of the south-western
corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE_M = 8_000
BINS = 90
READINGS = 6
"""Times a day at which a bin sends its level."""
LOST = 0.08
"""Part of the readings that never arrive, as by radio in a city."""
DEPOT = (4_000, 600)

Point = tuple[int, int]


@dataclass(frozen=True)
class Bin:
    """A bin.

    Attributes:
        name: its name.
        at: its position.
        litres: its volume.
        rate: the part of its volume that comes in on a mean weekday.
        weekend: the factor of that on Saturdays and Sundays.
    """

    name: str
    at: Point
    litres: int
    rate: float
    weekend: float


def bins(seed: int) -> list[Bin]:
    """Return the bins of a seed: in several quarters, some of which are busy on weekends."""
    dice = np.random.default_rng(seed)
    quarters = dice.uniform(1_000, SIDE_M - 1_000, (9, 2))
    weekends = dice.choice([0.6, 1.0, 1.8], 9)
    made = []
    for number in range(BINS):
        quarter = int(dice.integers(9))
        x, y = np.clip(quarters[quarter] + dice.normal(0, 550, 2), 100, SIDE_M - 100)
        litres = int(dice.choice([660, 1100]))
        rate = float(np.clip(dice.lognormal(np.log(0.16), 0.55), 0.03, 0.6))
        made.append(Bin(f"bin-{number + 1:03}", (round(float(x)), round(float(y))), litres, rate, float(weekends[quarter])))
    return made


class Levels:
    """The true levels of all bins, which only their sensors know."""

    def __init__(self, seed: int) -> None:
        self.bins = bins(seed)
        self._dice = np.random.default_rng((seed, 1))
        self.now = self._dice.uniform(0.0, 0.6, len(self.bins))
        self.over = 0
        """The readings so far at which a bin was full or more."""

    def fill(self, slot: int) -> list[tuple[Bin, float] | None]:
        """Let the time from one reading to the next pass, and return what each bin sends; `None` is a reading that is lost.

        Args:
            slot: the number of the reading since the beginning, a Monday.
        """
        weekend = slot // READINGS % 7 >= 5
        part = (0.3, 0.5, 1.2, 1.5, 1.5, 1.0)[slot % READINGS]  # of a day's mean; little comes in at night
        mean = np.array([each.rate * (each.weekend if weekend else 1.0) for each in self.bins]) * part / READINGS
        self.now = self.now + mean * self._dice.gamma(4, 1 / 4, len(self.bins))
        self.over += int((self.now >= 1).sum())
        read = np.clip(self.now + self._dice.normal(0, 0.01, len(self.bins)), 0, 1.3)
        lost = self._dice.random(len(self.bins)) < LOST
        return [None if gone else (each, round(float(level), 3)) for each, level, gone in zip(self.bins, read, lost, strict=True)]

    def empty(self, names: set[str]) -> None:
        """Empty bins."""
        self.now = np.where([each.name in names for each in self.bins], 0.0, self.now)
