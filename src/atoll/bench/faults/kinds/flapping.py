"""A site that is repeatedly cut off and reconnected."""

from __future__ import annotations

import time
from random import Random

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, the_links


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    return (random.choice(sites),), round(random.uniform(0.3, 2.0), 2)


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    """Cut and reconnect the site; the fault's amount is the time between two changes, in seconds."""
    (site,) = fault.target
    ends = time.monotonic() + fault.lasts_s
    try:
        while time.monotonic() < ends:
            cloud.wan.cut(site)
            wait(fault.amount)
            cloud.wan.heal(site)
            if wait(fault.amount):
                break
    finally:
        cloud.wan.heal(site)


FLAPPING = Kind("flapping", _draw, the_links, _inject)
