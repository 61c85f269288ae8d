"""Plots of a run as SVG: distributions of latencies, and medians against numbers such as the round trip and the loss.

matplotlib is imported only here; `timeline_plots` draws on the axes that `svg` makes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from atoll.cloud.quantities import milliseconds, probability
from atoll.errors import AtollError
from atoll.experiment.statistics import median_interval, quantile
from atoll.experiment.summary import Group

MOST_LINES = 8
"""Greatest number of lines in one plot; the groups beyond it are drawn in further plots."""

_WIDE, _DECADES = 20, 1e3
"""The ratios of the greatest to the smallest value from which an axis is logarithmic, and has a label only for each power of 10."""

ALL = "all"
"""The label of the only line of a plot, which needs no legend."""

# The colours of Okabe and Ito, which colour-blind readers tell apart; line styles tell them apart on grey paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLES = ("-", "--", "-.", ":")
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "atoll", "font.family": "sans-serif", "font.size": 10}
_SIZE = (11.0, 4.2)  # inches; the page shows it at its whole width


def _library() -> Any:
    try:
        return import_module("matplotlib")
    except ImportError as error:
        hint = "`make install` in a checkout installs it, or `pip install 'atoll[experiment]'`"
        raise AtollError("experiment.requirement", f"a report needs the Python package matplotlib: {error}", hint) from None


Labelled = Sequence[tuple[str, Group]]
"""Groups of samples, each with the label of its line in a plot."""


def distributions(title: str, groups: Labelled) -> str:
    """Return the cumulative distributions of the latencies of groups as SVG."""

    def draw(axes: Any) -> None:
        for (label, group), style in zip(groups, styles(), strict=False):
            values = sorted(group.all_s)
            shares = [(number + 1) / len(values) for number in range(len(values))]
            axes.step([values[0], *values], [0.0, *shares], where="post", label=f"{label} (n={len(values)})", **style)
        axes.set_xlabel("latency, s")
        axes.set_ylabel("share of operations")
        axes.set_ylim(0, 1.02)
        every = [value for _label, group in groups for value in group.all_s]
        if spread(every):
            logarithmic(axes, "x", every)
        else:
            axes.set_xlim(left=0)

    return svg(title, [draw])


@dataclass(frozen=True)
class Quantity:
    """A factor whose values are numbers, so that medians can be plotted against it.

    Attributes:
        name: the name of the quantity in captions.
        axis: the label of the axis, with the unit.
        value: returns the value of the factor in the unit of `axis`, from all factors.
    """

    name: str
    axis: str
    value: Callable[[Mapping[str, Any]], float]


def against(title: str, quantity: Quantity, groups: Mapping[str, Sequence[Group]]) -> str:
    """Return medians of latencies against a quantity as SVG, with their confidence intervals.

    Args:
        title: the title.
        quantity: the quantity.
        groups: the groups of each line, by its label; the quantity is one of their factors.
    """

    def draw(axes: Any) -> None:
        for (label, line), style in zip(groups.items(), styles(), strict=False):
            points = sorted(line, key=lambda group: quantity.value(group.factors))
            medians = [quantile(group.all_s, 0.5) for group in points]
            # Without an interval, the bar has no length.
            intervals = [median_interval(group.latencies_s) or (middle, middle) for group, middle in zip(points, medians, strict=True)]
            below = [middle - low for middle, (low, _high) in zip(medians, intervals, strict=True)]
            above = [high - middle for middle, (_low, high) in zip(medians, intervals, strict=True)]
            at = [quantity.value(group.factors) for group in points]
            axes.errorbar(at, medians, yerr=[below, above], label=label, marker="o", markersize=4, capsize=3, **style)
        _abscissa(axes, quantity, [quantity.value(group.factors) for line in groups.values() for group in line])
        axes.set_ylabel("median latency, s")
        from_zero(axes)

    return svg(title, [draw])


def values_against(title: str, unit: str, quantity: Quantity, lines: Mapping[str, Mapping[float, Sequence[float]]]) -> str:
    """Return medians of measured numbers against a quantity as SVG; bars reach from the smallest to the greatest number.

    Args:
        title: the title.
        unit: the unit of the numbers.
        quantity: the quantity.
        lines: for each line, by its label, the numbers at each value of the quantity.
    """

    def draw(axes: Any) -> None:
        for (label, line), style in zip(lines.items(), styles(), strict=False):
            at = sorted(line)
            medians = [quantile(line[value], 0.5) for value in at]
            below = [middle - min(line[value]) for value, middle in zip(at, medians, strict=True)]
            above = [max(line[value]) - middle for value, middle in zip(at, medians, strict=True)]
            axes.errorbar(at, medians, yerr=[below, above], label=label, marker="o", markersize=4, capsize=3, **style)
        _abscissa(axes, quantity, [value for line in lines.values() for value in line])
        axes.set_ylabel(unit)
        from_zero(axes)

    return svg(title, [draw])


def _abscissa(axes: Any, quantity: Quantity, values: Sequence[float]) -> None:
    """Label the horizontal axis; make it logarithmic if the values are far apart."""
    axes.set_xlabel(quantity.axis)
    if spread(values):
        logarithmic(axes, "x", values)
    elif all(value == int(value) for value in values):
        axes.xaxis.get_major_locator().set_params(integer=True)


def _rtt_ms(factors: Mapping[str, Any]) -> float:
    return 2 * milliseconds(str(factors["delay"]))


def _loss_percent(factors: Mapping[str, Any]) -> float:
    return 100 * probability(str(factors["loss"]))


def _number(factor: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda factors: float(factors[factor])


QUANTITIES: Mapping[str, Quantity] = {
    "delay": Quantity("round trip", "round trip between two sites, ms", _rtt_ms),
    "loss": Quantity("loss", "lost packets in each direction of a link, %", _loss_percent),
    "sites": Quantity("number of sites", "sites", _number("sites")),
    "clients": Quantity("number of clients", "clients", _number("clients")),
}
"""The quantities by the name of their factor."""


def spread(values: Sequence[float]) -> bool:
    """Return whether values are so far apart that their axis should be logarithmic."""
    return min(values) > 0 and max(values) > _WIDE * min(values)


def logarithmic(axes: Any, name: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers such as 0.05 as its labels.

    Args:
        axes: the axes.
        name: "x" or "y".
        values: the values on the axis, all above 0.
    """
    ticker = import_module("matplotlib.ticker")
    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    few = max(values) < _DECADES * min(values)
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few and name == "x" else (1, 3) if few else (1,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def from_zero(axes: Any) -> None:
    """Begin the vertical axis at 0, and end it above the greatest value, so that marks there are not cut."""
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 if axes.dataLim.y1 > 0 else None)


def styles() -> Iterator[dict[str, Any]]:
    """Yield the properties of `MOST_LINES` lines, which readers can tell apart in colour and in grey."""
    for number in range(MOST_LINES):
        yield {"color": COLOURS[number % len(COLOURS)], "linestyle": _STYLES[number % len(_STYLES)], "linewidth": 1.6}


def svg(title: str, draws: Sequence[Callable[[Any], None]], height: float = _SIZE[1], *, beside: bool = False) -> str:
    """Return a picture of panels as SVG.

    Args:
        title: the title above the first panel.
        draws: the functions that draw the panels on their axes.
        height: the height of the whole picture in inches; its width is 11 inches.
        beside: whether the panels are side by side and share the vertical axis; by default, they are one above the other and share the
            horizontal axis.
    """
    matplotlib = _library()
    with matplotlib.rc_context(_STYLE):
        # Without pyplot, which would keep the figure and choose a window system.
        figure = import_module("matplotlib.figure").Figure(figsize=(_SIZE[0], height), layout="constrained")
        grid = {"ncols": len(draws), "sharey": True} if beside else {"nrows": len(draws), "sharex": True}
        panels = figure.subplots(**grid, squeeze=False).ravel()
        for axes, draw in zip(panels, draws, strict=True):
            draw(axes)
            axes.grid(visible=True, alpha=0.3)
            if axes.get_legend_handles_labels()[1] not in ([], [ALL]):
                axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=0.3)
        panels[0].set_title(title, loc="left")
        made = io.StringIO()
        figure.savefig(made, format="svg", dpi=150, metadata={"Date": None})
    return made.getvalue()
