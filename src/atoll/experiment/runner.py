"""The execution of a run: one cell after the other, with its progress and an estimate of the time left.

A failed cell does not end the run, and a run that crashed goes on with its unfinished cells.

The runner does not know how a cloud is started. Its caller passes a *cell runner*, a function that runs one cell and records its samples;
the command line passes that of `atoll.bench.cells`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.errors import AtollError
from atoll.experiment import samples
from atoll.experiment.machine import MachineWatch
from atoll.experiment.run import Run
from atoll.experiment.samples import FaultEvent, Row, Sample
from atoll.experiment.sweep import Cell

Say = Callable[[str], None]
"""A function that shows the user a line about the progress."""

Record = Callable[[Row], None]
"""A function that keeps a row of one of the tables of a cell, such as a sample."""

CellRunner = Callable[[Cell, Record, Say], Mapping[str, Any]]
"""A function that runs one cell in a cloud of its own, records samples, and removes the cloud. It returns `State.facts`, such as `up_s`."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        done: the number of finished cells, earlier ones included.
        failed: the number of failed cells, earlier ones included.
    """

    done: int
    failed: int


def execute(run: Run, run_cell: CellRunner, say: Say, *, again: bool = False) -> Outcome:
    """Run all cells that have not finished yet.

    Args:
        run: the run.
        run_cell: runs one cell.
        say: called with lines about the progress.
        again: whether to run failed cells again.

    Raises:
        KeyboardInterrupt: the user ended the run; finished cells are kept.
        AtollError: `experiment.requirement`: samples can't be written; `experiment.busy`: another command executes the run.
    """
    samples.check_requirements()
    with run.locked():
        return _execute_all(run, run_cell, say, again=again)


def _execute_all(run: Run, run_cell: CellRunner, say: Say, *, again: bool) -> Outcome:
    states = run.states()
    finished = {"done"} if again else {"done", "failed"}
    left = [cell for cell in run.cells if states[cell.id].state not in finished]
    if len(left) < len(run.cells):
        say(f"{run.name}: {len(run.cells) - len(left)} of {len(run.cells)} cells are finished already")
    known = [float(state.facts["seconds"]) for state in states.values() if state.state == "done" and "seconds" in state.facts]
    for index, cell in enumerate(left):
        number = len(run.cells) - len(left) + index + 1
        say(f"cell {number} of {len(run.cells)}: {cell.label}, repetition {cell.repetition}{_time_left(known, len(left) - index)}")
        known.append(_execute(run, cell, run_cell, say))
    after = [state.state for state in run.states().values()]
    return Outcome(after.count("done"), after.count("failed"))


def _execute(run: Run, cell: Cell, run_cell: CellRunner, say: Say) -> float:
    """Run one cell, and return the seconds that it took."""
    begun = time.monotonic()
    rows: list[Row] = []
    run.note(cell, "running")
    with MachineWatch() as watch:
        try:
            facts = dict(run_cell(cell, rows.append, say))
        except Exception as error:  # one cell must not end the others
            message = error.message if isinstance(error, AtollError) else f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - begun
            run.note(cell, "failed", message, {"seconds": round(seconds, 3)})
            say(f"cell {cell.id} failed after {seconds:.0f} s: {message}")
            return seconds
    seconds = time.monotonic() - begun
    measured = [row._replace(database=cell.database) for row in rows if isinstance(row, Sample)]
    faults = sorted(row for row in rows if isinstance(row, FaultEvent))
    run.save(cell, [*measured, *watch.readings, *faults, *(row for row in rows if not isinstance(row, Sample | FaultEvent))])
    facts |= {"seconds": round(seconds, 3), "idle_share": watch.idle_share, "samples": len(measured)}
    run.note(cell, "done", facts=facts)
    return seconds


def _time_left(known: list[float], cells: int) -> str:
    if not known:
        return ""
    seconds = cells * sum(known) / len(known)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"
