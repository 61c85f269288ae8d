"""The spread of a fire, by pyretechnics: surface fire by Rothermel's equations, crown fire, and ELMFIRE's level set.

An ensemble varies the wind and the moisture about what was measured, because neither is known where the fire burns. Its result is the part
of its members in which each cell burns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyretechnics.eulerian_level_set import SpreadState, spread_fire_with_phi_field
from pyretechnics.space_time_cube import SpaceTimeCube

from use_cases.fire.landscape import CELL_M, CELLS, FOREST, Grid, Landscape, Point, cell

BAND_MIN = 60
"""Minutes for which the weather of a simulation is constant."""


@dataclass(frozen=True)
class Air:
    """Wind and moisture at a fire.

    Attributes:
        wind: the speed of the wind at 10 m in km/h.
        wind_from: the direction from which it blows, in degrees clockwise from the north.
        moisture: the mass of water in fine dead fuel, as a fraction of its dry mass.
    """

    wind: float
    wind_from: float
    moisture: float


def arrival_min(land: Landscape, air: Air, ignition: Point, minutes: int) -> Grid:
    """Return the minutes after which the fire reaches each cell; infinite where it does not within `minutes`."""
    shape = (-(-minutes // BAND_MIN), CELLS, CELLS)
    state = SpreadState(shape).ignite_cell(cell(ignition))
    done = spread_fire_with_phi_field(
        {name: SpaceTimeCube(shape, value) for name, value in _inputs(land, air).items()},
        state,
        (BAND_MIN, CELL_M, CELL_M),
        0.0,
        float(minutes),
    )
    matrices = done["spread_state"].get_full_matrices(["time_of_arrival"])
    reached: Grid = np.asarray(matrices["time_of_arrival"], dtype=np.float32)
    return np.where((reached >= 0) & (reached <= minutes), reached, np.float32(np.inf))


def _inputs(land: Landscape, air: Air) -> dict[str, Any]:
    """Return the inputs of pyretechnics, in its units; live fuels have the moisture of a dry summer."""
    forest = (land.fuel == FOREST).astype(np.float32)
    return {
        "slope": land.slope,
        "aspect": land.aspect,
        "fuel_model": land.fuel,
        "canopy_cover": forest * 0.6,
        "canopy_height": forest * 12.0,
        "canopy_base_height": forest * 2.0,
        "canopy_bulk_density": forest * 0.1,
        "wind_speed_10m": air.wind,
        "upwind_direction": air.wind_from % 360.0,
        "fuel_moisture_dead_1hr": air.moisture,
        "fuel_moisture_dead_10hr": air.moisture * 1.2,
        "fuel_moisture_dead_100hr": air.moisture * 1.4,
        "fuel_moisture_live_herbaceous": 0.6,
        "fuel_moisture_live_woody": 0.9,
        "foliar_moisture": 0.9,
    }


@dataclass(frozen=True)
class Ensemble:
    """A number of simulations of one fire.

    Attributes:
        minutes: the minutes of fire.
        count: the number of members.
        seed: the seed of their differences.
    """

    minutes: int
    count: int
    seed: int


def members(air: Air, ensemble: Ensemble) -> list[Air]:
    """Return the air of each member of an ensemble; the first is the measured air itself."""
    dice, count = np.random.default_rng((ensemble.seed, 2)), ensemble.count
    wind, turn, moisture = dice.lognormal(0, 0.2, count), dice.normal(0, 15, count), dice.lognormal(0, 0.15, count)
    varied = [
        Air(air.wind * float(w), (air.wind_from + float(t)) % 360.0, min(air.moisture * float(m), 0.5))
        for w, t, m in zip(wind, turn, moisture, strict=True)
    ]
    return [air, *varied[1:]]


def burn_probability(land: Landscape, air: Air, ignition: Point, ensemble: Ensemble) -> Grid:
    """Return the part of an ensemble's members in which the fire reaches each cell."""
    total = np.zeros((CELLS, CELLS), dtype=np.float32)
    for each in members(air, ensemble):
        total += np.isfinite(arrival_min(land, each, ignition, ensemble.minutes))
    return total / np.float32(ensemble.count)
