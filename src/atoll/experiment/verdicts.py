"""The verdicts on the shapes that an experiment expects: whether its measured medians have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from atoll.cloud.quantities import milliseconds
from atoll.experiment.shapes import Shape
from atoll.experiment.statistics import quantile
from atoll.experiment.summary import Group


@dataclass(frozen=True)
class Verdict:
    """The comparison of one line with a shape.

    Attributes:
        shape: the shape.
        line: the factors by which the lines of the shape differ, as a text; empty if no line was measured.
        measured: the measured number as a text.
        holds: whether the shape holds; `None` if fewer than two round trips were measured.
    """

    shape: Shape
    line: str
    measured: str
    holds: bool | None


def verdicts(shapes: Sequence[Shape], groups: Sequence[Group]) -> list[Verdict]:
    """Compare measured groups with shapes; a shape without a measured line has one verdict that says so."""
    return [verdict for shape in shapes for verdict in _verdicts(shape, groups)]


def _verdicts(shape: Shape, groups: Sequence[Group]) -> Iterator[Verdict]:
    lines: dict[str, list[tuple[float, float]]] = {}
    chosen = [group for group in groups if _matches(shape, group) and group.all_s]
    names = dict.fromkeys(name for group in chosen for name in group.factors if name != "delay")
    varying = [name for name in names if len({str(group.factors.get(name)) for group in chosen}) > 1]
    for group in chosen:
        words = [f"{name} {group.factors[name]}" for name in varying if name in group.factors]
        words += [f"users at {group.place} sites"] if group.place else []
        point = 2e-3 * milliseconds(str(group.factors.get("delay", "0ms"))), quantile(group.all_s, 0.5)
        lines.setdefault(", ".join(words) or "all", []).append(point)
    # A line with one round trip, such as one of links with a loss at a single delay, has no shape.
    several = {line: points for line, points in lines.items() if len({at for at, _median in points}) > 1}
    if not several:
        yield Verdict(shape, "", "fewer than two round trips were measured", None)
    for line, points in sorted(several.items()):
        yield _judged(shape, line, sorted(points))


def _matches(shape: Shape, group: Group) -> bool:
    if group.operation != shape.operation or (shape.users is not None and group.place != shape.users):
        return False
    return all(str(group.factors.get(name)) == str(value) for name, value in shape.where.items())


def _judged(shape: Shape, line: str, points: Sequence[tuple[float, float]]) -> Verdict:
    if shape.round_trips is not None:
        slope = linear_regression([at for at, _median in points], [median for _at, median in points]).slope
        low, high = shape.round_trips
        return Verdict(shape, line, f"{slope:.2f} round trips", low <= slope <= high)
    base = points[0][1]
    growth = max(median for _at, median in points) / base - 1
    return Verdict(shape, line, f"{100 * growth:.1f} %", 100 * growth <= (shape.flat_percent or 0.0))
