"""The report's section about faults: operations before, during and after the faults, and the times of each fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atoll.experiment.markup import table
from atoll.experiment.phases import Phase, phases
from atoll.experiment.run import Run
from atoll.experiment.statistics import CONFIDENCE, quantile, share_interval
from atoll.experiment.sweep import Cell


def faults(run: Run) -> Iterator[str]:
    """Yield the HTML about the faults of a run; nothing if no finished cell has faults."""
    states = run.states()
    cells = [cell for cell in run.cells if cell.faults and states[cell.id].state == "done"]
    if not cells:
        return
    yield "<h2>Faults</h2>"
    yield from _phases(phases(run))
    yield from _events(run, cells)


def _phases(found: list[Phase]) -> Iterator[str]:
    yield "<h3>Operations before, during and after the faults</h3>"
    yield "<p>An operation belongs to the phase of its intended start. Concerned users are at a site that is the target of a fault.</p>"
    yield f"<p>Intervals of served shares are at {100 * CONFIDENCE:.0f} % (Wilson).</p>"
    titles = ("Operation", "Users", "Phase", "Factors", "#Operations", "#Served", "#Interval", "#Median, s", "#95 %, s")
    every = [dict(each.factors) for each in found]
    names = dict.fromkeys(name for factors in every for name in factors)
    varying = [name for name in names if len({str(factors.get(name)) for factors in every}) > 1]
    yield table(titles, [_phase(each, varying) for each in found])


def _phase(phase: Phase, varying: Sequence[str]) -> list[str]:
    factors = ", ".join(f"{name} {phase.factors[name]}" for name in varying if name in phase.factors)
    values = phase.all_s
    low, high = share_interval(len(values), phase.operations)
    numbers = [f"{quantile(values, share):.4g}" for share in (0.5, 0.95)] if values else ["", ""]
    served = f"{100 * len(values) / phase.operations:.1f} %"
    shares = [str(phase.operations), served, f"{100 * low:.1f} to {100 * high:.1f} %"]
    return [phase.operation, phase.users, phase.phase, factors or "all", *shares, *numbers]


def _events(run: Run, cells: list[Cell]) -> Iterator[str]:
    yield "<h3>Times of the faults</h3>"
    yield "<p>Times are in seconds after the start of the measured operations.</p>"
    rows = [
        [cell.id, str(each.number), each.kind, each.target, each.cause, *(f"{at:.3f}" for at in each[4:8])]
        for cell in cells
        for each in run.faults(cell)
    ]
    yield table(("Cell", "#Number", "Fault", "Target", "Cause", "#Started", "#In effect", "#Undone from", "#Ended"), rows)
