"""Plots of a run as SVG: distributions of latencies, medians against the round trip and the loss, and time-lines with faults.

matplotlib is imported only here.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from atoll.cloud.quantities import milliseconds, probability
from atoll.errors import AtollError
from atoll.experiment.samples import FaultEvent, Sample
from atoll.experiment.statistics import median_interval, quantile
from atoll.experiment.summary import Group

MOST_LINES = 8
"""Greatest number of lines in one plot; the groups beyond it are drawn in further plots."""

# The colours of Okabe and Ito, which colour-blind readers tell apart; line styles tell them apart on grey paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
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
        for (label, group), style in zip(groups, _styles(), strict=False):
            values = sorted(group.all_s)
            shares = [(number + 1) / len(values) for number in range(len(values))]
            axes.step([values[0], *values], [0.0, *shares], where="post", label=f"{label} (n={len(values)})", **style)
        axes.set_xlabel("latency, s")
        axes.set_ylabel("share of operations")
        axes.set_ylim(0, 1.02)
        every = [value for _label, group in groups for value in group.all_s]
        if min(every) > 0 and max(every) > 20 * min(every):
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)

    return _svg(title, draw)


@dataclass(frozen=True)
class Quantity:
    """A factor whose values are numbers, so that medians can be plotted against it.

    Attributes:
        name: the name of the quantity in captions.
        axis: the label of the axis, with the unit.
        value: returns the value of the factor in a group, in the unit of `axis`.
    """

    name: str
    axis: str
    value: Callable[[Group], float]


def against(title: str, quantity: Quantity, groups: Mapping[str, Sequence[Group]]) -> str:
    """Return medians of latencies against a quantity as SVG, with their confidence intervals.

    Args:
        title: the title.
        quantity: the quantity.
        groups: the groups of each line, by its label; the quantity is one of their factors.
    """

    def draw(axes: Any) -> None:
        for (label, line), style in zip(groups.items(), _styles(), strict=False):
            points = sorted(line, key=quantity.value)
            medians = [quantile(group.all_s, 0.5) for group in points]
            # Without an interval, the bar has no length.
            intervals = [median_interval(group.latencies_s) or (middle, middle) for group, middle in zip(points, medians, strict=True)]
            below = [middle - low for middle, (low, _high) in zip(medians, intervals, strict=True)]
            above = [high - middle for middle, (_low, high) in zip(medians, intervals, strict=True)]
            at = list(map(quantity.value, points))
            axes.errorbar(at, medians, yerr=[below, above], label=label, marker="o", markersize=4, capsize=3, **style)
        axes.set_xlabel(quantity.axis)
        axes.set_ylabel("median latency, s")
        axes.set_ylim(bottom=0)

    return _svg(title, draw)


def timeline(title: str, samples: Sequence[Sample], events: Sequence[FaultEvent]) -> str:
    """Return the latencies of one cell over time as SVG; bars mark its faults, and crosses its failed operations.

    Args:
        title: the title.
        samples: the operations, at least one.
        events: the faults.
    """

    def draw(axes: Any) -> None:
        served = [sample for sample in samples if sample.ok]
        failed = [sample for sample in samples if not sample.ok]
        names = sorted({(sample.operation, sample.site) for sample in served})
        for (operation, site), style in zip(names, itertools.cycle(_styles()), strict=False):
            own = [sample for sample in served if (sample.operation, sample.site) == (operation, site)]
            marks = {"marker": ".", "linestyle": "", "markersize": 5, "color": style["color"]}
            axes.plot([each.intended_s for each in own], [each.latency_s for each in own], label=f"{operation}, {site}", **marks)
        if failed:
            marks = {"marker": "x", "linestyle": "", "markersize": 5, "color": "#B00000"}
            axes.plot([each.intended_s for each in failed], [each.latency_s for each in failed], label=f"failed (n={len(failed)})", **marks)
        _mark(axes, events)
        axes.set_xlabel("intended start of the operation, s after the start of the measured operations")
        axes.set_ylabel("latency, s")
        every = [sample.latency_s for sample in samples]
        if min(every) > 0 and max(every) > 20 * min(every):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)

    return _svg(title, draw)


def _mark(axes: Any, events: Sequence[FaultEvent]) -> None:
    """Mark faults: dark while in effect, light while they are injected or undone."""
    for event, colour in zip(events, itertools.cycle(reversed(_COLOURS)), strict=False):  # reversed: not those of the operations
        axes.axvspan(event.started_s, event.ended_s, color=colour, alpha=0.1, linewidth=0)
        label = f"fault {event.number}: {event.kind} {event.target}"
        axes.axvspan(event.effective_s, event.undone_s, color=colour, alpha=0.25, linewidth=0, label=label)
        axes.axvline(event.started_s, color=colour, linewidth=1, linestyle=":")


def _rtt_ms(group: Group) -> float:
    return 2 * milliseconds(str(group.factors["delay"]))


def _loss_percent(group: Group) -> float:
    return 100 * probability(str(group.factors["loss"]))


QUANTITIES: Mapping[str, Quantity] = {
    "delay": Quantity("round trip", "round trip between two sites, ms", _rtt_ms),
    "loss": Quantity("loss", "lost packets in each direction of a link, %", _loss_percent),
}
"""The quantities by the name of their factor."""


def _styles() -> Iterator[dict[str, Any]]:
    for number in range(MOST_LINES):
        yield {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _STYLES[number % len(_STYLES)], "linewidth": 1.6}


def _svg(title: str, draw: Any) -> str:
    matplotlib = _library()
    with matplotlib.rc_context(_STYLE):
        # Without pyplot, which would keep the figure and choose a window system.
        figure = import_module("matplotlib.figure").Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title, loc="left")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        made = io.StringIO()
        figure.savefig(made, format="svg", metadata={"Date": None})
    return made.getvalue()
