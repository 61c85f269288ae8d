"""Quantiles of the distribution of Student (1908), for intervals whose variance is estimated from few values."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL_FROM = 200
"""Degrees of freedom from which Student's distribution is taken to be the normal one."""


def student(probability: float, freedom: int) -> float:
    """Return a quantile of Student's distribution; of the normal one if there are no degrees of freedom, or very many.

    Args:
        probability: the probability of a smaller value, at least 0.5 and below 1.
        freedom: the degrees of freedom.
    """
    if not 0 < freedom < _NORMAL_FROM:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while _below(high, freedom) < probability and high < math.inf:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < probability else (low, middle)
    return high


def _below(value: float, freedom: int) -> float:
    """Return the probability of a smaller value than `value`, from the finite series for whole degrees of freedom."""
    angle = math.atan(value / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    term = total = math.cos(angle) if freedom % 2 else 1.0
    for number in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= square * (number - 1) / number
        total += term
    if freedom % 2:
        return 0.5 + (angle + (math.sin(angle) * total if freedom > 1 else 0.0)) / math.pi
    return 0.5 + math.sin(angle) * total / 2
