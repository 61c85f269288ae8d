"""Statistics of latencies that assume no distribution: quantiles, and confidence intervals of medians and of shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from atoll.experiment.variation import design_effect

CONFIDENCE = 0.95
"""Confidence level of each single interval in tables and plots, without a correction for the number of intervals."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of values, interpolated between neighbours.

    Args:
        values: at least one value.
        share: the share of the values below the quantile, 0 to 1.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def median_interval(cells: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the confidence interval of the median, by ranks; `None` if there are too few values.

    Values of one cell are more alike than values of different cells, so the interval is widened by the design effect: it is as wide as the
    interval of fewer, independent values.

    Args:
        cells: the values of each cell, all above 0.
        confidence: the level, above 0 and below 1.
    """
    ordered = sorted(value for cell in cells for value in cell)
    if not ordered:
        return None
    effect = design_effect([[[math.log(max(value, 1e-9)) for value in cell] for cell in cells if cell]])
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(len(ordered) * effect) / 2
    rank = math.floor(len(ordered) / 2 - half)
    return (ordered[rank - 1], ordered[-rank]) if rank >= 1 else None


def share_interval(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the confidence interval of a share by Wilson's score (1927), which also holds for shares near 0 and 1.

    Args:
        count: the number of operations that have the property.
        of: the number of all operations, at least 1.
        confidence: the level, above 0 and below 1.
    """
    z, share = NormalDist().inv_cdf(0.5 + confidence / 2), count / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, centre - half), min(1.0, centre + half)
