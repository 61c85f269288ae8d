"""Garbage collection: the city, the forecast and the routes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from use_cases.waste.city import BINS, DEPOT, READINGS, SIDE_M, Levels, bins
from use_cases.waste.forecast import FULL, Forecast
from use_cases.waste.planner import Planner
from use_cases.waste.routes import COMPACTION, MAY, MUST, SHIFT_S, SPEED_M_S, STOP_S, TRUCK_LITRES, TRUCKS, Stop, length, plan

LEVELS = some.floats(0, 1.3)
DAYS = some.floats(0, 30)
POINTS = some.tuples(some.integers(0, SIDE_M), some.integers(0, SIDE_M))
STOPS = some.lists(some.tuples(POINTS, some.integers(1, 1_400), some.floats(0, 1)), max_size=14)


def test_city_of_a_seed_is_always_the_same():
    assert bins(3) == bins(3) != bins(4)
    one, other = Levels(3), Levels(3)
    assert [one.fill(slot) for slot in range(3)] == [other.fill(slot) for slot in range(3)]
    assert len({each.name for each in bins(3)}) == BINS


def test_emptying_does_not_change_what_comes_in():
    kept, emptied = Levels(3), Levels(3)
    for slot in range(READINGS):
        kept.fill(slot)
        emptied.fill(slot)
    before = kept.now - emptied.now
    emptied.empty({each.name for each in emptied.bins})
    assert not emptied.now.any()
    begin = kept.now.copy()
    kept.fill(READINGS)
    emptied.fill(READINGS)
    assert not before.any()
    assert np.allclose(kept.now - begin, emptied.now)


def test_some_readings_are_lost():
    sent = [each for slot in range(20) for each in Levels(slot).fill(0)]
    assert 0.03 < sum(each is None for each in sent) / len(sent) < 0.15


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_forecast_learns_a_steady_rate_in_spite_of_lost_readings(rate):
    forecast, level = Forecast(), 0.0
    for step in range(1, 200):
        level += rate / READINGS
        if level > 0.9:
            level = 0.0
        if step % 5:
            forecast.observe(step / READINGS, level)
    assert forecast.rate == pytest.approx(rate, rel=0.25)


@given(some.lists(some.tuples(DAYS, LEVELS), max_size=40))
def test_forecast_of_any_readings_has_bounds(readings):
    forecast = Forecast()
    for at, level in readings:
        forecast.observe(at, level)
    assert forecast.rate >= 0
    assert forecast.variance >= 0
    risks = [forecast.risk(at) for at in (0.0, 15.0, 30.0, 60.0)]
    assert all(0 <= risk <= 1 for risk in risks)
    assert forecast.expected(60.0) >= forecast.expected(30.0)


@given(DAYS, LEVELS, some.floats(-5, 0))
def test_old_readings_are_ignored(at, level, before):
    forecast, other = Forecast(), Forecast()
    for each in (forecast, other):
        each.observe(at, level)
    other.observe(at + before, 0.3)
    assert forecast == other


def test_bin_without_a_reading_is_visited():
    assert Forecast().risk(3.0) == 1
    sure = Forecast()
    sure.observe(1.0, 0.95)
    assert sure.risk(1.5) > 0.99 > MUST
    empty = Forecast()
    empty.observe(1.0, 0.0)
    assert empty.risk(1.5) < MAY < 0.1
    assert empty.risk(1.5, threshold=0.0) >= 0.5
    assert FULL == 0.8


@settings(deadline=None, max_examples=15)
@given(STOPS)
def test_routes_keep_every_limit(given_stops):
    stops = [Stop(f"bin-{number}", at, litres, risk) for number, (at, litres, risk) in enumerate(given_stops)]
    found = plan(stops, seed=1)
    known = {stop.name: stop for stop in stops}
    visited = [name for route in found.routes for name in route]
    assert len(visited) == len(set(visited))
    assert len(found.routes) <= TRUCKS
    assert all(known[name].risk >= MAY for name in visited)
    assert found.left == [stop.name for stop in stops if stop.risk >= MUST and stop.name not in visited]
    assert not found.left  # so few bins have always a place
    for route in found.routes:
        way = length([known[name].at for name in route])
        assert sum(known[name].litres for name in route) <= TRUCK_LITRES * COMPACTION
        assert way / SPEED_M_S + STOP_S * len(route) <= SHIFT_S + len(route) + 1  # each leg's seconds are rounded
    assert found.metres == sum(length([known[name].at for name in route]) for route in found.routes)
    assert plan(stops, seed=1) == found


def test_unlikely_bins_are_visited_only_on_the_way():
    near, far = (DEPOT[0] + 100, DEPOT[1]), (100, SIDE_M)
    must = Stop("must", (DEPOT[0] + 200, DEPOT[1]), 500, 0.9)
    found = plan([must, Stop("near", near, 500, 0.2), Stop("far", far, 500, 0.2)])
    assert sorted(found.routes[0]) == ["must", "near"]
    assert not plan([Stop("none", near, 500, 0.01)]).routes


def test_too_many_full_bins_are_named():
    stops = [Stop(f"bin-{number}", ((number * 797) % SIDE_M, (number * 419) % SIDE_M), 1_100, 0.9) for number in range(60)]
    found = plan(stops, trucks=1)
    assert len(found.routes) == 1
    assert 0 < len(found.left) < 60
    assert set(found.left).isdisjoint(found.routes[0])


def test_planner_forgets_the_level_of_an_emptied_bin():
    city = bins(3)
    planner = Planner(city, 3)
    for each in city:
        planner.observe(each.name, {"day": 0.1, "level": 0.1})
    planner.observe(city[0].name, {"day": 0.2, "level": 1.0})
    assert city[0].name in {name for route in planner.plan(0)["routes"] for name in route}
    planner.emptied({"day": 0.34, "bins": [city[0].name, "unknown"]})
    assert city[0].name not in {name for route in planner.plan(0)["routes"] for name in route}
