"""The report's section about measured numbers that are not latencies, such as the traffic of an idle member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from atoll.experiment import plots
from atoll.experiment.markup import figure, table
from atoll.experiment.run import Run
from atoll.experiment.statistics import quantile
from atoll.experiment.summary import natural, short_names
from atoll.experiment.sweep import Cell

Measured = Mapping[tuple[str, str], Mapping[str, Sequence[float]]]
"""The measured numbers by name and unit, and by the label of the cells."""


def values(run: Run) -> Iterator[str]:
    """Yield the HTML about the measured numbers of a run; nothing if no finished cell has any."""
    states = run.states()
    measured: dict[tuple[str, str], dict[str, list[float]]] = {}
    cells: dict[str, Cell] = {}
    for cell in sorted((cell for cell in run.cells if states[cell.id].state == "done"), key=lambda cell: natural(cell.label)):
        for each in run.values(cell):
            measured.setdefault((each.name, each.unit), {}).setdefault(cell.label, []).append(each.value)
            cells[cell.label] = cell
    if not measured:
        return
    yield "<h2>Measured numbers</h2>"
    for (name, unit), found in measured.items():
        yield from _figures(name, unit, found, cells)
    names = short_names(list(cells.values()))
    rows = [
        [name, names[label], str(len(numbers)), *(f"{number:.4g}" for number in (quantile(numbers, 0.5), min(numbers), max(numbers))), unit]
        for (name, unit), found in measured.items()
        for label, numbers in found.items()
    ]
    yield table(("Quantity", "Combination", "#Cells", "#Median", "#Smallest", "#Greatest", "Unit"), rows)


def _figures(name: str, unit: str, found: Mapping[str, Sequence[float]], cells: Mapping[str, Cell]) -> Iterator[str]:
    """Yield a plot against each quantity that varies."""
    for factor, quantity in plots.QUANTITIES.items():
        chosen = [cells[label] for label in found if factor in cells[label].factors]
        names = short_names(chosen, without=factor)
        lines: dict[str, dict[float, list[float]]] = {}
        for cell in chosen:
            lines.setdefault(names[cell.label], {}).setdefault(quantity.value(cell.factors), []).extend(found[cell.label])
        several = {label: line for label, line in lines.items() if len(line) > 1}
        labels = list(several)
        for first in range(0, len(labels), plots.MOST_LINES):
            part = {label: several[label] for label in labels[first : first + plots.MOST_LINES]}
            caption = f"{name} against the {quantity.name}; bars reach from the smallest to the greatest number"
            yield figure(plots.values_against(name, unit, quantity, part), caption)
