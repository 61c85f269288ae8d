"""The clock of a site jumps by up to an hour, either way, and later jumps back."""

from __future__ import annotations

from random import Random

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait

MOST_S = 3600


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    amount = random.choice((-1, 1)) * random.choice((MOST_S, random.randrange(2, MOST_S)))
    return (random.choice(sites),), float(amount)


def _claims(target: tuple[str, ...]) -> frozenset[str]:
    return frozenset({f"clock of {target[0]}"})


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    """Set the clock ahead by the fault's amount, in seconds."""
    if cloud.clocks is None:
        return
    (site,) = fault.target
    cloud.clocks.set(site, fault.amount)
    try:
        wait(fault.lasts_s)
    finally:
        cloud.clocks.set(site, 0)


CLOCK = Kind("clock", _draw, _claims, _inject)
