"""Time-lines of one cell as SVG: latencies, throughput, traffic of links, processors and memory, one above the other on one time axis.

Each panel has the cell's faults as bars.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from atoll.experiment import resources
from atoll.experiment.plots import COLOURS, MOST_LINES, from_zero, logarithmic, spread, styles, svg
from atoll.experiment.resources import Points
from atoll.experiment.samples import FaultEvent, Sample, TrafficReading, UsageReading

_PANEL_IN, _BOTTOM_IN = 1.75, 0.6
"""Height of each panel, and of the title and the label of the time axis together, in inches."""

_FAILED = "#B00000"

_MOST_MARKS = 1000
"""Greatest number of marks that are drawn one by one in SVG; more of them become an image, which is smaller."""


@dataclass(frozen=True)
class Recorded:
    """The data of one cell that have times.

    Attributes:
        samples: the operations.
        faults: the faults.
        usage: the readings of the sites' processes.
        traffic: the readings of the links' counters.
    """

    samples: Sequence[Sample] = ()
    faults: Sequence[FaultEvent] = ()
    usage: Sequence[UsageReading] = ()
    traffic: Sequence[TrafficReading] = ()

    @property
    def has_times(self) -> bool:
        """True if there is anything to draw over time, unlike in a cell whose operations only have durations."""
        return bool(self.usage) or len({sample.intended_s for sample in self.samples}) > 1


def timeline(title: str, cell: Recorded) -> str:
    """Return the time-lines of one cell as SVG, with a panel for each kind of data that the cell has."""
    panels: list[Callable[[Any], None]] = []
    if cell.samples:
        panels.append(partial(_latencies, cell.samples))
        panels.append(partial(_curves, "operations\nper second", resources.throughput_curves(cell.samples), drawstyle="steps-post"))
    if cell.traffic:
        sizes = _scaled(resources.traffic_curves(cell.traffic, "bytes"), 1e-3)
        panels.append(partial(_curves, "traffic of links\nkB/s", sizes))
        panels.append(partial(_curves, "traffic of links\npackets/s", resources.traffic_curves(cell.traffic, "packets")))
    if cell.usage:
        panels.append(partial(_curves, "processors\ncores", resources.cpu_curves(cell.usage)))
        # Marks show the readings, which are rare.
        panels.append(partial(_curves, "memory\nMB", resources.memory_curves(cell.usage), marker="."))
    return svg(title, [partial(_panel, cell, draw, number, len(panels)) for number, draw in enumerate(panels)], height_in(len(panels)))


def height_in(panels: int) -> float:
    """Return the height of a picture in inches."""
    return _PANEL_IN * max(2, panels) + _BOTTOM_IN


def _panel(cell: Recorded, draw: Callable[[Any], None], number: int, count: int, axes: Any) -> None:
    draw(axes)
    _mark(axes, cell.faults, named=number == 0)
    if number == count - 1:
        axes.set_xlabel("seconds after the start of the measured operations")


def _latencies(samples: Sequence[Sample], axes: Any) -> None:
    image = {"rasterized": len(samples) > _MOST_MARKS}
    served = [sample for sample in samples if sample.ok]
    failed = [sample for sample in samples if not sample.ok]
    for (label, own), style in zip(_named(served).items(), itertools.cycle(styles()), strict=False):
        marks = {"marker": ".", "linestyle": "", "markersize": 5, "color": style["color"], **image}
        axes.plot([each.intended_s for each in own], [each.latency_s for each in own], label=label, **marks)
    if failed:
        marks = {"marker": "x", "linestyle": "", "markersize": 5, "color": _FAILED, **image}
        axes.plot([each.intended_s for each in failed], [each.latency_s for each in failed], label=f"failed (n={len(failed)})", **marks)
    axes.set_ylabel("latency from the\nintended start, s")
    every = [sample.latency_s for sample in samples]
    if spread(every):
        logarithmic(axes, "y", every)
    else:
        from_zero(axes)


def _named(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return samples by operation and site, or by operation alone if there would be too many labels."""
    whole = len({(sample.operation, sample.site) for sample in samples}) <= MOST_LINES
    found: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda each: (each.operation, each.site)):
        found.setdefault(f"{sample.operation}, {sample.site}" if whole else sample.operation, []).append(sample)
    return found


def _curves(label: str, curves: Mapping[str, Points], axes: Any, **look: str) -> None:
    for (name, points), style in zip(fewest(curves).items(), styles(), strict=False):
        own = {**style, "color": _FAILED, "linestyle": ":"} if name == "failed" else style
        axes.plot([at for at, _value in points], [value for _at, value in points], label=name, **own, **look)
    axes.set_ylabel(label)
    from_zero(axes)


def fewest(curves: Mapping[str, Points]) -> dict[str, Points]:
    """Return at most `MOST_LINES` curves: those with the greatest sums, and one with the sum of all others."""
    if len(curves) <= MOST_LINES:
        return dict(curves)
    ordered = sorted(curves, key=lambda name: sum(value for _at, value in curves[name]), reverse=True)
    chosen, others = ordered[: MOST_LINES - 1], ordered[MOST_LINES - 1 :]
    total: dict[float, float] = {}
    for name in others:
        for at, value in curves[name]:
            total[at] = total.get(at, 0.0) + value
    return {name: curves[name] for name in sorted(chosen, key=list(curves).index)} | {f"sum of {len(others)} others": sorted(total.items())}


def _scaled(curves: Mapping[str, Points], factor: float) -> dict[str, Points]:
    return {name: [(at, factor * value) for at, value in points] for name, points in curves.items()}


def _mark(axes: Any, events: Sequence[FaultEvent], *, named: bool) -> None:
    """Mark faults: dark while in effect, light while they are injected or undone."""
    for event, colour in zip(events, itertools.cycle(reversed(COLOURS)), strict=False):  # reversed: not those of the operations
        axes.axvspan(event.started_s, event.ended_s, color=colour, alpha=0.1, linewidth=0)
        label = f"fault {event.number}: {event.kind} {event.target}" if named else None
        axes.axvspan(event.effective_s, event.undone_s, color=colour, alpha=0.25, linewidth=0, label=label)
        axes.axvline(event.started_s, color=colour, linewidth=1, linestyle=":")
