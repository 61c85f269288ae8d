"""The intended starts of requests in an open loop, which do not depend on the answers."""

from __future__ import annotations

import random
from collections.abc import Iterator

ARRIVALS = ("poisson", "constant")
"""The kinds of arrivals: with exponentially distributed gaps, or with equal ones."""


def arrivals(kind: str, rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the intended starts of requests, in seconds from the start of the load.

    Args:
        kind: one of `ARRIVALS`.
        rate: requests per second.
        seconds: the length of the load in seconds.
        seed: the seed of random gaps.

    Raises:
        ValueError: `kind` is not one of `ARRIVALS`, or the rate is not above 0.
    """
    if kind not in ARRIVALS or rate <= 0:
        raise ValueError(f"{kind} at {rate} requests a second: expected one of {', '.join(ARRIVALS)} at a rate above 0")
    chance = random.Random(seed)
    number, at = 0, chance.expovariate(rate) if kind == "poisson" else 0.0
    while at < seconds:
        yield at
        number += 1
        # A product instead of a sum, so that rounding errors do not add up.
        at = at + chance.expovariate(rate) if kind == "poisson" else number / rate
