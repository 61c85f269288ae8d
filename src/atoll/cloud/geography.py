"""How long light takes from one place to another, through fibre that does not run straight."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

Location = tuple[float, float]
"""Latitude and longitude in degrees."""

EARTH_KM = 6371.0
"""Mean radius."""

FIBRE_KM_PER_MS = 200.0
"""Two thirds of the speed of light in vacuum (GEANT's knowledge base, "Propagation delay": 200,000 km/s, 5 microseconds per km)."""


def distance_km(start: Location, end: Location) -> float:
    """The great-circle distance, by the haversine formula."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(radians, place)) for place in (start, end))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def route_km(distance: float) -> float:
    """The length of a fibre between two places that far apart, as ITU-T G.826 takes it.

    That is 1.5 times the distance below 1000 km, 1500 km up to 1200 km, and 1.25 times the distance above.
    """
    if distance < 1000:
        return 1.5 * distance
    return max(1500.0, 1.25 * distance)


def delay_ms(start: Location, end: Location) -> float:
    """One way, in milliseconds, rounded to microseconds."""
    return round(route_km(distance_km(start, end)) / FIBRE_KM_PER_MS, 3)
