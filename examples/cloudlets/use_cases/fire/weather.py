"""The weather of a summer fortnight, made from a seed: rain in the beginning, then from day to day hotter, drier and windier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from use_cases.fire.index import Noon

DAYS = 16
MONTH = 7


@dataclass(frozen=True)
class Day:
    """The observations of a weather station on a day.

    Attributes:
        noon: the weather at noon.
        wind_from: the direction from which the wind blows, in degrees clockwise from the north.
    """

    noon: Noon
    wind_from: float


def fortnight(seed: int) -> list[Day]:
    """Return the days of a seed."""
    dice = np.random.default_rng((seed, 1))
    days = []
    for number in range(DAYS):
        drought = number / (DAYS - 1)
        temperature = 19 + 16 * drought + dice.normal(0, 1.2)
        humidity = min(max(68 - 46 * drought + dice.normal(0, 4), 12), 95)
        wind = max(9 + 17 * drought + dice.normal(0, 2.5), 2)
        rain = float(dice.gamma(2, 3)) if number < 2 else 0.0
        days.append(
            Day(
                Noon(MONTH, *(round(float(each), 1) for each in (temperature, humidity, wind, rain))),
                round(float(dice.normal(270, 12)) % 360),
            )
        )
    return days
