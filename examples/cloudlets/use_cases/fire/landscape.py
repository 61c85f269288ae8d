"""A landscape of 12 by 12 km, made from a seed: terrain, fuels, villages, cameras and the masts of two sites.

Positions are metres east and north of the south-western corner. Arrays have a row for each step to the north, so row 0 is the southern
edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import hypot

import numpy as np
from numpy.typing import NDArray

SIDE_M = 12_000
CELL_M = 60
CELLS = SIDE_M // CELL_M

Grid = NDArray[np.float32]
Point = tuple[float, float]

BUILT, GRASS, SHRUBS, MIXED, FOREST = 91, 102, 145, 122, 165
"""Fuel models of Scott and Burgan: NB1, GR2, SH5, GS2 and TU5."""


@dataclass(frozen=True)
class Place:
    """A named point."""

    name: str
    at: Point


@dataclass(frozen=True)
class Landscape:
    """Everything that the fire and its watchers find.

    Attributes:
        height: metres above sea level.
        slope: rise over run.
        aspect: the direction in which the ground falls, in degrees clockwise from the north.
        fuel: the number of the fuel model.
        villages, cameras, masts: the places; there are as many masts as sites.
    """

    height: Grid
    slope: Grid
    aspect: Grid
    fuel: Grid
    villages: tuple[Place, ...]
    cameras: tuple[Place, ...]
    masts: tuple[Place, ...]


MASTS = (Place("west", (2_000.0, 5_500.0)), Place("east", (9_800.0, 6_200.0)))


def cell(at: Point) -> tuple[int, int]:
    """Return the row and the column of a point; points outside belong to the nearest cell."""
    x, y = (min(max(int(each // CELL_M), 0), CELLS - 1) for each in at)
    return y, x


def distance_m(one: Point, other: Point) -> float:
    """Return the distance of two points in metres."""
    return hypot(one[0] - other[0], one[1] - other[1])


def nearest(places: tuple[Place, ...], at: Point) -> Place:
    """Return the place that is nearest to a point."""
    return min(places, key=lambda place: distance_m(place.at, at))


@lru_cache(maxsize=4)
def landscape(seed: int) -> Landscape:
    """Return the landscape of a seed; the same seed gives the same landscape."""
    dice = np.random.default_rng(seed)
    height = 120 + 220 * _bumps(dice, 9, 1_800)
    rise_north, rise_east = np.gradient(height, CELL_M)
    slope = np.hypot(rise_north, rise_east)
    aspect = np.degrees(np.arctan2(-rise_east, -rise_north)) % 360
    villages = tuple(Place(name, at) for name, at in zip(("Alba", "Brion", "Corte", "Dorn", "Este"), _apart(dice, 5, 2_200), strict=True))
    cameras = tuple(Place(f"camera-{n}", at) for n, at in enumerate(((1_500.0, 10_500.0), (10_500.0, 10_800.0), (6_000.0, 1_200.0)), 1))
    return Landscape(_grid(height), _grid(slope), _grid(aspect), _fuels(dice, villages), villages, cameras, MASTS)


def _grid(values: NDArray[np.float64]) -> Grid:
    return np.ascontiguousarray(values, dtype=np.float32)


def _bumps(dice: np.random.Generator, count: int, width_m: float) -> NDArray[np.float64]:
    """Return a sum of smooth hills, scaled to 0 to 1."""
    middle = (np.arange(CELLS) + 0.5) * CELL_M
    total = np.zeros((CELLS, CELLS))
    for x, y, size in dice.uniform((0, 0, 0.3), (SIDE_M, SIDE_M, 1.0), (count, 3)):
        total += size * np.exp(-((middle[None, :] - x) ** 2 + (middle[:, None] - y) ** 2) / (2 * width_m**2))
    scaled: NDArray[np.float64] = (total - total.min()) / np.ptp(total)
    return scaled


def _apart(dice: np.random.Generator, count: int, least_m: float) -> list[Point]:
    """Return points that keep a distance from one another and from the edges."""
    found: list[Point] = []
    while len(found) < count:
        x, y = dice.uniform(1_500, SIDE_M - 1_500, 2)
        if all(distance_m((x, y), each) >= least_m for each in found):
            found.append((round(float(x)), round(float(y))))
    return found


def _fuels(dice: np.random.Generator, villages: tuple[Place, ...]) -> Grid:
    """Return fuel models: by the density of the growth, and none in villages."""
    growth = _bumps(dice, 60, 700)
    fuel = np.select([growth < 0.25, growth < 0.42, growth < 0.6], [GRASS, MIXED, SHRUBS], FOREST)
    middle = (np.arange(CELLS) + 0.5) * CELL_M
    for village in villages:
        x, y = village.at
        fuel[np.hypot(middle[None, :] - x, middle[:, None] - y) < 250] = BUILT
    return _grid(fuel)
