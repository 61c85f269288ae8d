"""The clock of a site jumps by up to an hour, either way, and later jumps back."""

from __future__ import annotations

from random import Random

from atoll.bench.faults.fault import Fault, Kind, Stage, Wait

MOST_S = 3600


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    amount = random.choice((-1, 1)) * random.choice((MOST_S, random.randrange(2, MOST_S)))
    return (random.choice(sites),), float(amount)


def _claims(target: tuple[str, ...]) -> frozenset[str]:
    return frozenset({f"clock of {target[0]}"})


def _inject(stage: Stage, fault: Fault, wait: Wait) -> None:
    """The amount is how far the clock is ahead, in seconds."""
    if stage.clocks is None:
        return
    (site,) = fault.target
    stage.clocks.set(site, fault.amount)
    try:
        wait(fault.lasts_s)
    finally:
        stage.clocks.set(site, 0)


CLOCK = Kind("clock", _draw, _claims, _inject)
