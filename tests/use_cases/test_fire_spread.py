"""The landscape, the spread of a fire in it, and the polygon to evacuate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as some

from use_cases.fire import evacuation
from use_cases.fire.analysis import analyse
from use_cases.fire.detection import LEAST_CONFIDENCE, SAME_FIRE_M, Fires
from use_cases.fire.field import WAYPOINTS, ignitions, way
from use_cases.fire.landscape import BUILT, CELL_M, CELLS, GRASS, MASTS, SIDE_M, cell, distance_m, landscape, nearest
from use_cases.fire.spread import Air, Ensemble, arrival_min, burn_probability, members
from use_cases.fire.weather import fortnight

DRY = Air(25.0, 270.0, 0.06)
MIDDLE = (6_030.0, 6_030.0)
INSIDE = some.tuples(some.floats(0, SIDE_M), some.floats(0, SIDE_M))


@pytest.fixture(scope="module")
def flat():
    """Return a landscape of level grass."""
    level = np.zeros((CELLS, CELLS), dtype=np.float32)
    return replace(landscape(1), height=level, slope=level, aspect=level, fuel=np.full_like(level, GRASS))


def test_landscape_of_a_seed_is_always_the_same():
    one = landscape(3)
    landscape.cache_clear()
    other = landscape(3)
    assert one.villages == other.villages
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("height", "slope", "aspect", "fuel"))
    assert not np.array_equal(one.height, landscape(4).height)
    assert fortnight(3) == fortnight(3) != fortnight(4)


def test_slopes_fall_where_the_aspect_says():
    land = landscape(1)
    row, column = np.unravel_index(np.argmax(land.slope[1:-1, 1:-1]), (CELLS - 2, CELLS - 2))
    row, column = row + 1, column + 1
    north, east = (step(np.radians(land.aspect[row, column])) for step in (np.cos, np.sin))
    assert land.height[row + round(float(north)), column + round(float(east))] < land.height[row, column]


@given(INSIDE)
def test_each_point_has_a_cell(at):
    row, column = cell(at)
    assert 0 <= row < CELLS
    assert 0 <= column < CELLS
    assert abs((column + 0.5) * CELL_M - at[0]) <= CELL_M
    assert abs((row + 0.5) * CELL_M - at[1]) <= CELL_M


@pytest.mark.parametrize(("wind_from", "north", "east"), [(270.0, 0, 1), (90.0, 0, -1), (180.0, 1, 0), (0.0, -1, 0)])
def test_fire_runs_with_the_wind(flat, wind_from, north, east):
    burnt = np.argwhere(np.isfinite(arrival_min(flat, replace(DRY, wind_from=wind_from), MIDDLE, 60)))
    drift = burnt.mean(axis=0) - np.array(cell(MIDDLE))
    assert len(burnt) > 10
    assert drift @ np.array([north, east]) > 3 * abs(drift @ np.array([east, north])) + 1


def test_fire_runs_uphill(flat):
    slope = replace(flat, slope=np.full_like(flat.slope, 0.5), aspect=np.full_like(flat.slope, 180.0))  # falls to the south
    burnt = np.argwhere(np.isfinite(arrival_min(slope, replace(DRY, wind=0.0), MIDDLE, 60)))
    assert burnt[:, 0].mean() > cell(MIDDLE)[0] + 0.5


def test_more_time_and_less_water_burn_more(flat):
    hour, two = (np.isfinite(arrival_min(flat, DRY, MIDDLE, minutes)) for minutes in (60, 120))
    assert np.all(two[hour])
    assert two.sum() > hour.sum()
    assert np.isfinite(arrival_min(flat, replace(DRY, moisture=0.12), MIDDLE, 60)).sum() < hour.sum()


def test_villages_do_not_burn():
    land = landscape(1)
    assert not np.isfinite(arrival_min(land, DRY, ignitions(land)[0], 60))[land.fuel == BUILT].any()


def test_ensemble_is_repeatable_and_contains_the_measured_air():
    five = members(DRY, Ensemble(60, 5, 3))
    assert five == members(DRY, Ensemble(60, 5, 3)) != members(DRY, Ensemble(60, 5, 4))
    assert five[0] == DRY
    assert len({each.wind for each in five}) == 5
    land = landscape(1)
    one, other = (burn_probability(land, DRY, ignitions(land)[0], Ensemble(60, 3, 9)) for _ in range(2))
    assert np.array_equal(one, other)
    assert one.max() == 1
    assert np.all(np.isin(np.rint(one * 3), range(4)))


def test_analysis_covers_what_the_quick_ensemble_finds(monkeypatch):
    monkeypatch.setattr("use_cases.fire.analysis.MEMBERS", 3)
    land = landscape(1)
    x, y = ignitions(land)[0]
    found = analyse({"seed": 1, "air": [DRY.wind, DRY.wind_from, DRY.moisture], "x": x, "y": y})
    assert np.array(found["percent"]).max() == 100
    assert found["places"]
    assert shapely.Polygon(found["polygon"]).contains(shapely.Point(x, y))


@settings(deadline=None)
@given(some.lists(some.tuples(some.integers(0, CELLS - 1), some.integers(0, CELLS - 1)), max_size=30), INSIDE)
def test_polygon_holds_all_that_may_burn_and_the_margin(cells, ignition):
    probability = np.zeros((CELLS, CELLS), dtype=np.float32)
    for row, column in cells:
        probability[row, column] = evacuation.LEAST_PROBABILITY
    outline = evacuation.polygon(probability, ignition)
    area = shapely.Polygon(outline)
    assert outline[0] == outline[-1]
    assert area.is_valid
    assert area.exterior.is_ccw
    # The outline is a polygon inside the round margin, and is simplified by half a cell.
    least = evacuation.MARGIN_M - CELL_M
    points = [ignition, *(((column + 0.5) * CELL_M, (row + 0.5) * CELL_M) for row, column in cells)]
    assert all(area.contains(shapely.Point(each)) and area.exterior.distance(shapely.Point(each)) >= least for each in points)
    assert evacuation.area_ha(outline) >= np.pi * least**2 / 10_000


def test_cells_below_the_least_probability_do_not_count():
    probability = np.full((CELLS, CELLS), evacuation.LEAST_PROBABILITY * 0.9, dtype=np.float32)
    assert evacuation.area_ha(evacuation.polygon(probability, MIDDLE)) < 80


@given(some.lists(some.tuples(INSIDE, some.floats(0, 1)), max_size=20))
def test_alarms_are_apart(events):
    fires = Fires()
    alarmed = [at for at, confidence in events if fires.is_new(at, confidence)]
    assert all(distance_m(one, other) > SAME_FIRE_M for number, one in enumerate(alarmed) for other in alarmed[:number])
    sure = [at for at, confidence in events if confidence >= LEAST_CONFIDENCE]
    assert all(any(distance_m(at, each) <= SAME_FIRE_M for each in alarmed) for at in sure)


@pytest.mark.parametrize("seed", [1, 7, 8])
def test_crew_drives_from_one_mast_to_the_other(seed):
    land = landscape(seed)
    stations = [nearest(MASTS, at).name for at in way(land)]
    assert len(stations) == WAYPOINTS
    assert stations == sorted(stations, reverse=True)
    assert (stations[0], stations[-1]) == ("west", "east")
