"""Slopes, ratios and errors that are computed from measured values."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

COUNTED = ("http_calls", "neutron_calls", "placement_calls", "rpc_messages", "sql_statements", "commits", "bytes")
COMPARED = (*COUNTED, "cpu_s", "wall_s", "round_trips")
"""Figures for which the report has the ratio of the variant `reduced` to the variant `stock`."""


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the slope of the line that fits points best, by least squares.

    With latencies against round-trip times, in the same unit, this is the number of sequential round trips.

    Args:
        points: pairs of a round trip and a latency.

    Returns:
        The slope; `None` if all round trips are equal.
    """
    if len({x for x, _y in points}) < 2:
        return None
    return round(statistics.linear_regression(*zip(*points, strict=True)).slope, 2)


def ratios(reduced: Mapping[str, Any], stock: Mapping[str, Any]) -> dict[str, float]:
    """Divide each figure of reduced traffic by the same figure of stock traffic, if both exist and the divisor is not 0."""
    pairs = {name: (reduced.get(name), stock.get(name)) for name in COMPARED}
    return {name: round(ours / theirs, 3) for name, (ours, theirs) in pairs.items() if ours is not None and theirs}


def error_percent(predicted: float, measured: float) -> float:
    """Return the error of a prediction in percent of the measured value; positive if the prediction is too high."""
    return round(100 * (predicted - measured) / measured, 1)
