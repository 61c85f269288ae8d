"""The Fire Weather Index of the Canadian system, from day to day.

The equations, and their numbers in the comments, are those of Van Wagner and Pickett, *Equations and FORTRAN program for the Canadian
Forest Fire Weather Index System*, Canadian Forestry Service, Forestry Technical Report 33, 1985. The classes of danger are those of EFFIS,
the European Forest Fire Information System.

The package cffdrs-fire 0.3.0 is not used: for the Fine Fuel Moisture Code it counts a rain of 0.5 mm or less, which the report ignores.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

CLASSES = ((50.0, "extreme"), (38.0, "very high"), (21.3, "high"), (11.2, "moderate"), (0.0, "low"))
"""The lowest index of each class of danger, the highest class first."""

HIGH = 21.3
"""The lowest index of the class `high`, from which on the analysis must be ready."""

_SCALE = 147.2
"""The coefficient of the scale of the Fine Fuel Moisture Code (equations 1 and 10)."""
_DAY_LENGTHS = (6.5, 7.5, 9.0, 12.8, 13.9, 13.9, 12.4, 10.9, 9.4, 8.0, 7.0, 6.0)
"""Effective hours of daylight of each month, for the Duff Moisture Code (table 1)."""
_DAY_FACTORS = (-1.6, -1.6, -1.6, 0.9, 3.8, 5.8, 6.4, 5.0, 2.4, 0.4, -1.6, -1.6)
"""Adjustment of each month for the length of its days, for the Drought Code (table 2)."""


@dataclass(frozen=True)
class Noon:
    """The weather of a day at noon.

    Attributes:
        month: the month, 1 to 12.
        temperature: the temperature in degrees Celsius.
        humidity: the relative humidity in percent, 0 to 100.
        wind: the speed of the wind in km/h.
        rain: the rain of the last 24 hours in millimetres.
    """

    month: int
    temperature: float
    humidity: float
    wind: float
    rain: float


@dataclass(frozen=True)
class Danger:
    """The moisture codes and indices of a day. The defaults are the codes with which a season begins.

    Attributes:
        ffmc: the Fine Fuel Moisture Code.
        dmc: the Duff Moisture Code.
        dc: the Drought Code.
        isi: the Initial Spread Index.
        bui: the Buildup Index.
        fwi: the Fire Weather Index.
    """

    ffmc: float = 85.0
    dmc: float = 6.0
    dc: float = 15.0
    isi: float = 0.0
    bui: float = 0.0
    fwi: float = 0.0

    @property
    def named(self) -> str:
        """The name of the class of danger."""
        return next(name for least, name in CLASSES if self.fwi >= least)

    @property
    def high(self) -> bool:
        """Whether the class is high or above."""
        return self.fwi >= HIGH

    @property
    def fine_fuel_moisture(self) -> float:
        """The mass of water in dead grass and litter, as a fraction of their dry mass."""
        return _SCALE / 100.0 * (101.0 - self.ffmc) / (59.5 + self.ffmc)


def next_day(before: Danger, noon: Noon) -> Danger:
    """Return the danger of a day, from that of the day before and the weather at noon."""
    ffmc, dmc, dc = _fine_fuel(before.ffmc, noon), _duff(before.dmc, noon), _drought(before.dc, noon)
    isi, bui = _initial_spread(ffmc, noon.wind), _buildup(dmc, dc)
    return Danger(ffmc, dmc, dc, isi, bui, _weather_index(isi, bui))


def _fine_fuel(before: float, noon: Noon) -> float:
    """Return the Fine Fuel Moisture Code: equations 1 to 10."""
    water, humidity = _SCALE * (101.0 - before) / (59.5 + before), noon.humidity
    if noon.rain > 0.5:
        rain = noon.rain - 0.5
        wetter = water + 42.5 * rain * exp(-100.0 / (251.0 - water)) * (1.0 - exp(-6.93 / rain))
        if water > 150.0:
            wetter += 0.0015 * (water - 150.0) ** 2 * sqrt(rain)
        water = min(wetter, 250.0)
    warmth = 0.18 * (21.1 - noon.temperature) * (1.0 - exp(-0.115 * humidity))
    drying = 0.942 * humidity**0.679 + 11.0 * exp((humidity - 100.0) / 10.0) + warmth
    wetting = 0.618 * humidity**0.753 + 10.0 * exp((humidity - 100.0) / 10.0) + warmth
    if water > drying:
        water = drying + (water - drying) * 10.0 ** -_rate(humidity / 100.0, noon)
    elif water < wetting:
        water = wetting - (wetting - water) * 10.0 ** -_rate(1.0 - humidity / 100.0, noon)
    return min(max(59.5 * (250.0 - water) / (_SCALE + water), 0.0), 101.0)


def _rate(part: float, noon: Noon) -> float:
    """Return the rate of drying, or of wetting, of a day: equations 6 and 7."""
    rate: float = 0.424 * (1.0 - part**1.7) + 0.0694 * sqrt(noon.wind) * (1.0 - part**8)
    return rate * 0.581 * exp(0.0365 * noon.temperature)


def _duff(before: float, noon: Noon) -> float:
    """Return the Duff Moisture Code: equations 11 to 17."""
    code = before
    if noon.rain > 1.5:
        rain = 0.92 * noon.rain - 1.27
        water = 20.0 + exp(5.6348 - before / 43.43)
        if before <= 33.0:
            slope = 100.0 / (0.5 + 0.3 * before)
        elif before <= 65.0:
            slope = 14.0 - 1.3 * log(before)
        else:
            slope = 6.2 * log(before) - 17.2
        code = max(244.72 - 43.43 * log(water + 1000.0 * rain / (48.77 + slope * rain) - 20.0), 0.0)
    return code + 1.894e-4 * (max(noon.temperature, -1.1) + 1.1) * (100.0 - noon.humidity) * _DAY_LENGTHS[noon.month - 1]


def _drought(before: float, noon: Noon) -> float:
    """Return the Drought Code: equations 18 to 23."""
    code = before
    if noon.rain > 2.8:
        water = 800.0 * exp(-before / 400.0) + 3.937 * (0.83 * noon.rain - 1.27)
        code = max(400.0 * log(800.0 / water), 0.0)
    return code + 0.5 * max(0.36 * (max(noon.temperature, -2.8) + 2.8) + _DAY_FACTORS[noon.month - 1], 0.0)


def _initial_spread(ffmc: float, wind: float) -> float:
    """Return the Initial Spread Index: equations 24 to 26."""
    water = _SCALE * (101.0 - ffmc) / (59.5 + ffmc)
    fuel: float = 91.9 * exp(-0.1386 * water) * (1.0 + water**5.31 / 4.93e7)
    return 0.208 * exp(0.05039 * wind) * fuel


def _buildup(dmc: float, dc: float) -> float:
    """Return the Buildup Index: equation 27."""
    if dmc <= 0.4 * dc:
        return 0.8 * dmc * dc / (dmc + 0.4 * dc) if dmc > 0.0 else 0.0
    excess: float = (1.0 - 0.8 * dc / (dmc + 0.4 * dc)) * (0.92 + (0.0114 * dmc) ** 1.7)
    return max(dmc - excess, 0.0)


def _weather_index(isi: float, bui: float) -> float:
    """Return the Fire Weather Index: equations 28 to 30."""
    duff = 0.626 * bui**0.809 + 2.0 if bui <= 80.0 else 1000.0 / (25.0 + 108.64 * exp(-0.023 * bui))
    intensity = 0.1 * isi * duff
    return exp(2.72 * (0.434 * log(intensity)) ** 0.647) if intensity > 1.0 else intensity
