"""The polygon to evacuate: where the fire may burn, and a margin around."""

from __future__ import annotations

import numpy as np
import shapely

from use_cases.fire.landscape import CELL_M, Grid, Place, Point

LEAST_PROBABILITY = 0.1
"""Part of the ensemble's members from which a cell counts."""
MARGIN_M = 500.0
"""Metres around the cells."""


def polygon(probability: Grid, ignition: Point) -> list[Point]:
    """Return the outline of the area to evacuate, anticlockwise, its first point also its last.

    The area is that of all cells which burn with the least probability, and of the ignition, each with the margin. Holes are filled.
    """
    rows, columns = np.nonzero(probability >= LEAST_PROBABILITY)
    cells = shapely.box(columns * CELL_M, rows * CELL_M, (columns + 1) * CELL_M, (rows + 1) * CELL_M)
    area = shapely.union_all([*cells, shapely.Point(ignition)]).buffer(MARGIN_M, quad_segs=4)
    # Cells that are apart by more than twice the margin would give several areas: one polygon must hold them all.
    whole = area if area.geom_type == "Polygon" else area.convex_hull
    outline = shapely.Polygon(whole.exterior).simplify(CELL_M / 2).normalize()
    return [(round(x), round(y)) for x, y in reversed(outline.exterior.coords)]


def inside(outline: list[Point], places: tuple[Place, ...]) -> list[str]:
    """Return the names of the places within an outline."""
    area = shapely.Polygon(outline)
    return [place.name for place in places if area.covers(shapely.Point(place.at))]


def area_ha(outline: list[Point]) -> float:
    """Return the area within an outline, in hectares."""
    return float(shapely.Polygon(outline).area) / 10_000
