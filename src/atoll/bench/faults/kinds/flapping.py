"""A site that is cut off and connected again, again and again."""

from __future__ import annotations

import time
from random import Random

from atoll.bench.faults.fault import Fault, Kind, Stage, Wait, the_links


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    return (random.choice(sites),), round(random.uniform(0.3, 2.0), 2)


def _inject(stage: Stage, fault: Fault, wait: Wait) -> None:
    """The amount is the time between two changes, in seconds."""
    (site,) = fault.target
    ends = time.monotonic() + fault.lasts_s
    try:
        while time.monotonic() < ends:
            stage.wan.cut(site)
            wait(fault.amount)
            stage.wan.heal(site)
            if wait(fault.amount):
                break
    finally:
        stage.wan.heal(site)


FLAPPING = Kind("flapping", _draw, the_links, _inject)
