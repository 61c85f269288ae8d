"""The heavy analysis: many simulations of three hours, of which the crews get a map of the probability that a place burns.

This is the program for which a virtual machine is made near the crews. It reads a JSON object from standard input (seed, air, x, y) and
writes one to standard output: the probability of each block of 4 by 4 cells in percent, row by row from the south.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from use_cases.fire import evacuation
from use_cases.fire.landscape import CELLS, landscape
from use_cases.fire.spread import Air, Ensemble, burn_probability

MEMBERS = 100
MINUTES = 180
BLOCK = 4


def analyse(task: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a task, as the module describes them."""
    begun = time.perf_counter()
    land, ignition = landscape(task["seed"]), (task["x"], task["y"])
    probability = burn_probability(land, Air(*task["air"]), ignition, Ensemble(MINUTES, MEMBERS, task["seed"]))
    blocks = probability.reshape(CELLS // BLOCK, BLOCK, CELLS // BLOCK, BLOCK).max(axis=(1, 3))
    outline = evacuation.polygon(probability, ignition)
    return {
        "minutes": MINUTES,
        "members": MEMBERS,
        "percent": np.rint(blocks * 100).astype(int).tolist(),
        "polygon": outline,
        "places": evacuation.inside(outline, land.villages),
        "seconds": round(time.perf_counter() - begun, 2),
    }


if __name__ == "__main__":
    json.dump(analyse(json.load(sys.stdin)), sys.stdout)
