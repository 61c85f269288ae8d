"""Delays between places: the time that light takes through a fibre, which is longer than the distance."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

Location = tuple[float, float]
"""Latitude and longitude, in degrees."""

EARTH_KM = 6371.0
"""Mean radius of the Earth, in km."""

FIBRE_KM_PER_MS = 200.0
"""Speed of light in fibre: two thirds of that in vacuum (GEANT's knowledge base, "Propagation delay": 200,000 km/s, 5 µs per km)."""


def distance_km(start: Location, end: Location) -> float:
    """Return the great-circle distance in km, by the haversine formula."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(radians, place)) for place in (start, end))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def route_km(distance: float) -> float:
    """Return the length in km of a fibre between two places at a distance in km, by the rule of ITU-T G.826.

    The length is 1.5 times the distance below 1000 km, 1500 km up to 1200 km, and 1.25 times the distance above.
    """
    if distance < 1000:
        return 1.5 * distance
    return max(1500.0, 1.25 * distance)


def delay_ms(start: Location, end: Location) -> float:
    """Return the delay of one direction in milliseconds, rounded to microseconds."""
    return round(route_km(distance_km(start, end)) / FIBRE_KM_PER_MS, 3)
