"""The export of a run: its data as CSV beside Parquet, a card that describes the data, and a notebook that starts from them.

- `operations.csv`: a line for each operation of each combination of factors, with confidence intervals.
- `cells.csv`: a line for each cell.
- `samples.csv`: a line for each measured operation.
- `phases.csv`: a line for each operation before, during and after faults.
- `faults.csv`: a line for each fault that happened.
- `machine.csv`: a line for each reading of the machine's load.
- `usage.csv`: a line for each reading of a site's processes.
- `traffic.csv`: a line for each reading of the counters of a direction of a link.
- `links.csv`: a line for each direction of a link of each cell, with its traffic during the measured operations.
- `values.csv`: a line for each measured number that is not a latency.
- `parquet/`: the Parquet files of the run, with all metadata.
- `run.json`: everything that is needed to repeat the run.
- `experiment.yaml`: the file of the experiment.
- `NAME.ipynb`: a notebook that reads the CSV files.
- `README.md`: the data card.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

from atoll.errors import AtollError
from atoll.experiment import notebook, summary
from atoll.experiment.data_card import data_card
from atoll.experiment.phases import phases
from atoll.experiment.resources import link_totals
from atoll.experiment.run import Run
from atoll.experiment.samples import TABLES, FaultEvent, Reading, Sample, TrafficReading, UsageReading, Value
from atoll.experiment.statistics import median_interval, quantile, share_interval
from atoll.experiment.sweep import Cell

_NUMBERS = ("cells", "served", "failed", "served_low", "served_high", "median_s", "median_low_s", "median_high_s", "p95_s", "longest_s")
_DATABASE = ("database", "flush")
_FACTS = ("up_s", "seconds", "memory_mb", "idle_share", "samples", "sampled_every_s", "sampler_share")
_PHASES = ("factors", "operation", "users", "phase", "operations", "served", "served_low", "served_high", "median_s")
_LINKS = ("cell", "source", "target", "packets", "bytes", "dropped")


def export(run: Run, directory: Path) -> None:
    """Write the data of a run's finished cells to a new or empty directory.

    Args:
        run: the run; if it is unfinished, only its finished cells are exported.
        directory: the directory to write to.

    Raises:
        AtollError: `experiment.not_empty`: the directory has files; `experiment.damaged`: samples can't be read;
            `experiment.requirement`: the Parquet library is missing.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise AtollError("experiment.not_empty", f"{directory}: expected a directory that is new or empty", "name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    factors = list(dict.fromkeys(name for cell in run.cells for name in cell.factors))
    columns = [f"factor_{name}" for name in factors]  # a workload may have a parameter `operation`, or `seconds`
    states = run.states()
    done = [cell for cell in run.cells if states[cell.id].state == "done"]
    _write(directory / "operations.csv", (*columns, *_DATABASE, "operation", "users", *_NUMBERS), _operations(run, factors))
    _write(directory / "cells.csv", ("cell", "repetition", "state", *columns, *_DATABASE, "seed", *_FACTS, "error"), _cells(run, factors))
    _write(directory / "samples.csv", ("cell", *Sample._fields), ((cell.id, *row) for cell in done for row in run.samples(cell)))
    _write(directory / "machine.csv", ("cell", *Reading._fields), ((cell.id, *row) for cell in done for row in run.readings(cell)))
    _write_readings(run, done, directory)
    if any(cell.faults for cell in done):
        _write(directory / "faults.csv", ("cell", *FaultEvent._fields), ((cell.id, *row) for cell in done for row in run.faults(cell)))
        _write(directory / "phases.csv", _PHASES, _phases(run))
    _copy(run, done, directory / "parquet")
    shutil.copyfile(run.directory / "run.json", directory / "run.json")
    if run.document:
        (directory / "experiment.yaml").write_text(run.document, encoding="utf-8")
    (directory / f"{run.name}.ipynb").write_text(json.dumps(notebook.notebook(run, factors), indent=1) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(data_card(run, factors), encoding="utf-8")


def _write_readings(run: Run, cells: Sequence[Cell], directory: Path) -> None:
    """Write the tables that only some runs have."""
    made: list[tuple[str, Sequence[str], Iterator[Sequence[Any]]]] = [
        ("usage", ("cell", *UsageReading._fields), ((cell.id, *row) for cell in cells for row in run.usage(cell))),
        ("traffic", ("cell", *TrafficReading._fields), ((cell.id, *row) for cell in cells for row in run.traffic(cell))),
        ("links", _LINKS, ((cell.id, *link, *astuple(total)) for cell in cells for link, total in link_totals(run.traffic(cell)).items())),
        ("values", ("cell", *Value._fields), ((cell.id, *row) for cell in cells for row in run.values(cell))),
    ]
    for name, titles, rows in made:
        if (first := next(rows, None)) is not None:
            _write(directory / f"{name}.csv", titles, chain([first], rows))


def _write(path: Path, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows(rows)


def _operations(run: Run, factors: Sequence[str]) -> Iterable[list[Any]]:
    for group in summary.groups(run).values():
        values, interval = group.all_s, median_interval(group.latencies_s)
        shares = share_interval(len(values), group.operations) if group.operations else ("", "")
        low, high = interval or ("", "")
        middle, late, longest = [quantile(values, share) for share in (0.5, 0.95, 1.0)] if values else ["", "", ""]
        counts = [len(group.latencies_s), len(values), group.failures, *shares]
        told = [group.factors.get(name, "") for name in factors]
        yield [*told, group.database, group.flush, group.operation, group.place or "all", *counts, middle, low, high, late, longest]


def _cells(run: Run, factors: Sequence[str]) -> Iterable[list[Any]]:
    states = run.states()
    for cell in run.cells:
        state = states[cell.id]
        told = [cell.factors.get(name, "") for name in factors]
        told += [cell.database, state.facts.get("flush", ""), cell.seed]
        yield [cell.id, cell.repetition, state.state, *told, *(state.facts.get(name, "") for name in _FACTS), state.error]


def _phases(run: Run) -> Iterable[list[Any]]:
    for phase in phases(run):
        values = phase.all_s
        told = [phase.label, phase.operation, phase.users, phase.phase, phase.operations, len(values)]
        yield [*told, *share_interval(len(values), phase.operations), quantile(values, 0.5) if values else ""]


def _copy(run: Run, cells: Iterable[Cell], directory: Path) -> None:
    for cell in cells:
        for name in TABLES:
            source = run.directory / name / f"{cell.id}.parquet"
            if source.is_file():
                (directory / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, directory / name / source.name)
