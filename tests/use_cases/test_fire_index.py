"""The Fire Weather Index against published values, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from use_cases.fire import index
from use_cases.fire.index import CLASSES, HIGH, Danger, Noon, next_day

REPORT = """
17 42 25 0 87.7 8.5 19.0 10.9 8.5 10.1
20 21 25 2.4 86.2 10.4 23.6 8.8 10.4 9.3
8.5 40 17 0 87.0 11.8 26.1 6.5 11.7 7.6
6.5 25 6 0 88.8 13.2 28.2 4.9 13.1 6.2
13 34 24 0 89.1 15.4 31.5 12.6 15.3 14.8
"""
"""The first days of the sample of the report of 1985, from 13 April: temperature, humidity, wind, rain; FFMC, DMC, DC, ISI, BUI, FWI."""

SAMPLE = """
4 17 42 25 0 87.6 8.5 19 10.8 8.5 10
4 20 21 25 2.4 86.2 10.4 23.6 8.8 10.4 9.2
4 8.5 40 17 0 86.9 11.8 26.1 6.5 11.7 7.5
4 6.5 25 6 0 88.8 13.2 28.2 4.9 13.1 6.1
4 13 34 24 0 89 15.4 31.5 12.5 15.3 14.7
4 6 40 22 0.4 88.6 16.5 33.5 10.6 16.4 13.4
4 5.5 52 6 0 87.3 17.2 35.4 3.9 17.1 5.8
4 8.5 46 16 0 87.3 18.5 37.9 6.5 18.4 9.5
4 9.5 54 20 0 86.7 19.7 40.6 7.3 19.6 10.9
4 7 93 14 9 29.8 10.1 29.5 0 10.9 0
4 6.5 71 17 1 49.4 10.7 31.6 0.4 11.6 0.2
4 6 59 17 0 67.2 11.4 33.7 1.3 12.3 0.9
4 13 52 4 0 77.7 13 37 1.1 13.9 0.8
4 15.5 40 11 0 85.4 15.4 40.7 3.9 15.9 5.5
4 23 25 9 0 91.5 19.8 45.8 8.3 19.8 12.1
4 19 46 16 0 89.9 22.5 50.2 9.4 22.4 14.2
4 18 41 20 0 89.9 25.2 54.4 11.5 25.1 17.5
4 14.5 51 16 0 88.4 27 57.9 7.6 27 13.2
5 14.5 69 11 0 85.6 28.3 63 4 28.2 7.9
5 15.5 42 8 0 87.3 30.8 68.2 4.4 30.8 9
5 21 37 8 0 89.3 34.5 74.3 5.8 34.4 12.2
5 23 32 16 0 90.9 38.8 80.9 11 38.7 20.9
5 23 32 14 0 91.2 43.1 87.4 10.2 43 20.9
5 27 33 12 0 91.6 48.1 94.7 9.9 47.9 21.6
5 28 17 27 0 95.1 54.5 102.1 34.3 54.3 52.3
5 23.5 54 20 0 89.7 57.4 108.8 11.2 57.2 25.7
5 16 50 22 12.2 62.2 29.9 91.8 1.4 33 3
5 11 58 20 0 76.4 31.3 96.2 2.3 34.5 5.3
5 16 54 16 0 83.3 33.3 101.5 3.8 36.6 8.8
5 21.5 37 9 0 88.6 37.1 107.7 5.5 39.9 12.6
5 14 61 22 0.2 86.6 38.6 112.7 8 41.6 17.2
5 15 30 27 0 89.6 41.6 117.8 15.7 44.2 28.7
5 20 23 11 0 92.1 45.9 123.8 10 47.6 21.7
5 14 95 3 16.4 21.3 20.1 96.9 0 26.5 0
5 20 53 4 2.8 51 18.2 102.9 0.2 25.3 0.2
5 19.5 30 16 0 82.2 22 108.8 3.3 29.3 6.8
5 25.5 51 20 6 75.3 16.4 106.3 2.1 23.6 3.8
5 10 38 24 0 84.3 18.2 110.5 6.4 25.8 11.2
5 19 27 16 0 90.3 22 116.4 9.9 29.9 17.1
5 26 46 11 4.2 77.5 18.7 117.7 1.6 26.7 2.9
5 30 38 22 0 90.2 23.7 125.5 13.3 32.2 21.9
5 25.5 67 19 12.6 65.3 13.1 108.4 1.4 20.2 1.9
5 12 53 28 11.8 55.4 7.7 91.6 1.2 12.8 0.8
5 21 38 8 0 80.8 11.3 97.8 1.9 17.6 2.5
5 13 70 20 3.8 61.7 8.4 97.8 1.2 13.8 0.9
5 9 78 24 1.4 64.4 9 101.8 1.7 14.7 1.9
5 11 54 16 0 77.6 10.5 106.2 2 16.8 2.8
5 15.5 39 9 0 85.4 13.1 111.4 3.5 20.3 5.7
"""
"""Natural Resources Canada's results for the same season (`fwi_test_data.csv` of its software): month, then the columns above."""

NOONS = some.builds(
    Noon,
    some.integers(1, 12),
    some.floats(-40, 50),
    some.floats(0, 100),
    some.floats(0, 120),
    some.one_of(some.just(0.0), some.floats(0, 200)),
)


def rows(table: str) -> list[list[float]]:
    return [[float(each) for each in line.split()] for line in table.split("\n") if line]


def results(danger: Danger) -> tuple[float, ...]:
    return danger.ffmc, danger.dmc, danger.dc, danger.isi, danger.bui, danger.fwi


def test_sample_of_the_report():
    danger = Danger()
    for temperature, humidity, wind, rain, *expected in rows(REPORT):
        danger = next_day(danger, Noon(4, temperature, humidity, wind, rain))
        assert results(danger) == pytest.approx(expected, abs=0.05)


def test_whole_season(monkeypatch):
    """Canada's present software has more digits of one coefficient, and another form of the equations 12 and 15 of the DMC."""
    monkeypatch.setattr(index, "_SCALE", 250 * 59.5 / 101)
    danger, days = Danger(), rows(SAMPLE)
    for month, temperature, humidity, wind, rain, *expected in days:
        danger = next_day(danger, Noon(int(month), temperature, humidity, wind, rain))
        for found, value, tolerance in zip(results(danger), expected, (0.051, 0.12, 0.051, 0.051, 0.12, 0.051), strict=True):
            assert found == pytest.approx(value, abs=tolerance)
    assert len(days) == 48


@given(some.lists(NOONS, min_size=1, max_size=30))
def test_codes_stay_within_their_bounds(noons):
    danger = Danger()
    for noon in noons:
        danger = next_day(danger, noon)
        assert 0 <= danger.ffmc <= 101
        assert min(results(danger)) >= 0
        assert 0 <= danger.fine_fuel_moisture <= 2.5


@given(NOONS, some.floats(0, 100))
def test_drier_air_is_never_less_dangerous(noon, drier):
    wet, dry = max(noon.humidity, drier), min(noon.humidity, drier)
    moist, arid = (next_day(Danger(), Noon(noon.month, noon.temperature, each, noon.wind, 0.0)) for each in (wet, dry))
    assert arid.dmc >= moist.dmc
    assert arid.dc == moist.dc


def test_classes():
    assert [Danger(fwi=least).named for least, _ in CLASSES] == [name for _, name in CLASSES]
    assert not Danger(fwi=HIGH - 0.1).high
    assert Danger(fwi=HIGH).high
