"""Bars of totals as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from atoll.experiment.plots import COLOURS, svg

_BAR_IN, _FRAME_IN = 0.3, 1.0
"""Height of each bar, and of everything around the bars, in inches."""


def _spelled(value: float) -> str:
    """Return a number with three digits, or as a whole number with separators if it is longer."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def totals(rows: Sequence[tuple[str, float, float]]) -> str:
    """Return bars of the traffic of combinations as SVG, in bytes and in packets.

    Args:
        rows: for each combination its name, megabytes and packets.
    """
    names = [name for name, _megabytes, _packets in rows]
    places = [-number for number in range(len(rows))]  # the first one at the top

    def draw(values: Sequence[float], axis: str, colour: str, axes: Any) -> None:
        made = axes.barh(places, values, color=colour, height=0.7)
        axes.bar_label(made, [_spelled(value) for value in values], padding=3, fontsize=8)
        axes.set_xlabel(axis)
        axes.set_yticks(places, names)
        axes.margins(x=0.2)

    sizes, packets = [size for _name, size, _packets in rows], [count for _name, _size, count in rows]
    draws = [
        partial(draw, sizes, "MB (10^6 bytes)", COLOURS[0]),
        partial(draw, packets, "IP packets", COLOURS[1]),
    ]
    return svg("", draws, _FRAME_IN + _BAR_IN * len(rows), beside=True)
