"""Variation of latencies between the cells of a run and within them.

Samples of one cell share a cloud, so that they are more alike than samples of different cells. A run has few cells, which show the variance
between them only roughly. Therefore it is estimated from all groups of a comparison together, and bounds of intervals are those of
Student's distribution (`atoll.experiment.student`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

Runs = Sequence[Sequence[Sequence[float]]]
"""For each run, the values of each of its cells."""


@dataclass(frozen=True)
class Variation:
    """Variation of the values of one group.

    Attributes:
        between: the mean square of the cells' means around the mean of their run; 0 if no run has several cells.
        within: the mean square of the values around the mean of their cell; 0 if there are too few values.
        freedom: the number of cells above one in each run.
        per_cell: the number of values of a cell, averaged over the cells.
    """

    between: float
    within: float
    freedom: int
    per_cell: float

    @property
    def effect(self) -> float:
        """The ratio of the two variances (the design effect), at least 1; 1 if there are too few values for an estimate."""
        return max(1.0, self.between / self.within) if self.between and self.within else 1.0


def variation(runs: Runs) -> Variation:
    """Return the variation of values between and within the cells of runs; each run has at least one value."""
    between = within = 0.0
    cells = freedom = values = 0
    for run in runs:
        mean = fmean(value for cell in run for value in cell)
        between += sum(len(cell) * (fmean(cell) - mean) ** 2 for cell in run)
        within += sum((value - fmean(cell)) ** 2 for cell in run for value in cell)
        cells += len(run)
        freedom += len(run) - 1
        values += sum(map(len, run))
    spare = values - cells
    return Variation(between / freedom if freedom else 0.0, within / spare if spare else 0.0, freedom, values / cells)


def design_effect(runs: Runs) -> float:
    """Return the ratio of the variance between the cells of a run to the variance within them: `Variation.effect`."""
    return variation(runs).effect


@dataclass(frozen=True)
class Common:
    """Variation between cells, as all groups of a comparison tell it together.

    Attributes:
        share: the variance that the clouds of cells add, relative to the variance within a cell.
        freedom: the degrees of freedom of its estimate; 0 if no run has several cells of one combination of factors.
    """

    share: float = 0.0
    freedom: int = 0

    def effect(self, own: Variation) -> float:
        """Return the design effect of a group: the greater one of its own estimate, and of that of all groups."""
        return max(own.effect, 1 + self.share * own.per_cell) if own.freedom else own.effect


def common(found: Sequence[tuple[str, Variation]]) -> Common:
    """Combine the variation of groups; operations of the same cells count once for the degrees of freedom.

    Args:
        found: the label of the factors and the variation of each group.
    """
    known = [(label, each) for label, each in found if each.freedom and each.within]
    weight = sum(each.freedom for _label, each in known)
    if not weight:
        return Common()
    share = sum(each.freedom * (each.between / each.within - 1) / each.per_cell for _label, each in known) / weight
    return Common(max(0.0, share), sum({label: each.freedom for label, each in known}.values()))
