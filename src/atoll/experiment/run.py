"""The directory of a run: its experiment, its cells, the journal of their states, and their samples.

- `experiment.yaml`: a copy of the experiment's file, which only serves readers: the run itself needs only `run.json`.
- `run.json`: name, seed, versions, machine, and all cells in their order, each with the document of its cloud.
- `journal.jsonl`: a line for each change of a cell's state, flushed to the disk before the run goes on.
- `samples/CELL.parquet`: the samples of a finished cell.
- `faults/CELL.parquet`: the faults that happened in a finished cell; only if its scenario has faults.
- `machine/CELL.parquet`: readings of the machine's load while the cell ran.
- `usage/CELL.parquet`, `traffic/CELL.parquet`: readings of the sites' processes, and of the counters of the emulated links.
- `values/CELL.parquet`: measured numbers that are not latencies; only if the cell has any.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atoll.errors import AtollError
from atoll.experiment import samples
from atoll.experiment.samples import TABLES, FaultEvent, Reading, Row, Sample, TrafficReading, UsageReading, Value
from atoll.experiment.sweep import Cell
from atoll.files import read_regular

FORMAT = 1
_MOST_BYTES = 1 << 30
"""Greatest length in bytes of a `run.json` that is read; the file is shorter even with the greatest number of cells."""

Warn = Callable[[str], None]
"""A function that shows the user a line about a damaged run that the command skips."""

_Row = TypeVar("_Row", bound=Row)

_FILE, _JOURNAL, _DOCUMENT = "run.json", "journal.jsonl", "experiment.yaml"


_STATES = ("waiting", "running", "done", "failed")


class _Content(BaseModel):
    """The content of `run.json`, checked as far as commands rely on it."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    seed: int
    begun: str
    cells: list[dict[str, Any]] = Field(min_length=1)


@dataclass
class State:
    """The state of a cell.

    Attributes:
        state: "waiting", "running" (or interrupted), "done" or "failed".
        error: the reason why the cell failed; empty unless `state` is "failed".
        facts: measurements of the whole cell, such as `up_s`, `seconds`, `idle_share` and `memory_mb`.
    """

    state: str = "waiting"
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run of an experiment.

    Attributes:
        directory: its directory.
        about: the content of `run.json` without the cells, such as `name`, `seed` and `begun`.
        cells: the cells in the order in which they run.
    """

    directory: Path
    about: Mapping[str, Any]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The name of the directory, by which commands find the run."""
        return self.directory.name

    @property
    def document(self) -> str:
        """The YAML text of the experiment's file; empty if it was not kept."""
        path = self.directory / _DOCUMENT
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from executing this run inside the context; a command that dies keeps no lock.

        Raises:
            AtollError: `experiment.busy`: another command executes the run.
        """
        with (self.directory / "lock").open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                hint = "wait until that command has ended, or begin another run: `atoll experiment run --new`"
                raise AtollError("experiment.busy", f"another command executes the run {self.name} now", hint) from None
            yield

    def states(self) -> dict[str, State]:
        """Return the state of each cell by id, from the journal; if a crash cut off the journal's last line, ignore that line."""
        found = {cell.id: State() for cell in self.cells}
        try:
            lines = (self.directory / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["cell"] in found and entry["state"] in _STATES and isinstance(entry.get("facts", {}), dict):
                    found[entry["cell"]] = State(entry["state"], str(entry.get("error", "")), entry.get("facts", {}))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def note(self, cell: Cell, state: str, error: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """Add the new state of a cell to the journal, and flush it to the disk."""
        entry = {"cell": cell.id, "state": state, "error": error, "facts": dict(facts or {}), "at": datetime.now(UTC).isoformat()}
        path = self.directory / _JOURNAL
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut_off else "") + json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def save(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Write the rows of a cell to the files of their tables, each with all data needed to repeat the cell."""
        metadata = {"run": dict(self.about), "cell": cell.to_json()}
        always = {"samples", "machine", *(["faults"] if cell.faults else [])}
        for name, kind in TABLES.items():
            content = [row for row in rows if isinstance(row, kind)]
            if not content and name not in always:
                continue
            directory = self.directory / name
            directory.mkdir(exist_ok=True)
            samples.write(directory / f"{cell.id}.parquet", content, kind, metadata)

    def samples(self, cell: Cell) -> list[Sample]:
        """Return the samples of a finished cell.

        Raises:
            AtollError: `experiment.damaged`: the file of the samples can't be read.
        """
        return samples.read(self.directory / "samples" / f"{cell.id}.parquet")[0]

    def faults(self, cell: Cell) -> list[FaultEvent]:
        """Return the faults that happened in a finished cell; none in a cell without faults. See `samples`."""
        return self._rows("faults", cell, FaultEvent) if cell.faults else []

    def readings(self, cell: Cell) -> list[Reading]:
        """Return the readings of the machine's load while a finished cell ran; see `samples`."""
        return self._rows("machine", cell, Reading)

    def usage(self, cell: Cell) -> list[UsageReading]:
        """Return the readings of the sites' processes; none if the cell has no such table, as in runs of older versions. See `samples`."""
        return self._rows("usage", cell, UsageReading, optional=True)

    def traffic(self, cell: Cell) -> list[TrafficReading]:
        """Return the readings of the links' counters; none if the cell has no such table, as on a testbed. See `samples`."""
        return self._rows("traffic", cell, TrafficReading, optional=True)

    def values(self, cell: Cell) -> list[Value]:
        """Return the measured numbers that are not latencies; none if the cell has no such table. See `samples`."""
        return self._rows("values", cell, Value, optional=True)

    def _rows(self, table: str, cell: Cell, kind: type[_Row], *, optional: bool = False) -> list[_Row]:
        path = self.directory / table / f"{cell.id}.parquet"
        return [] if optional and not path.exists() else samples.read_rows(path, kind)


def create(base: Path, about: Mapping[str, Any], cells: Sequence[Cell], document: str = "") -> Run:
    """Create the directory of a new run.

    Args:
        base: the directory of all runs.
        about: the run's `name`, `seed`, and so on, ready for `json.dumps`.
        cells: its cells in their order.
        document: the YAML text of the experiment's file, from which the cells were made.
    """
    begun = datetime.now(UTC)
    base.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        directory = base / f"{about['name']}-{begun:%Y%m%dT%H%M%S}{f'-{number}' if number else ''}"
        try:
            directory.mkdir()
            break
        except FileExistsError:
            number += 1
    content = {"format": FORMAT, **about, "begun": begun.isoformat(), "cells": [cell.to_json() for cell in cells]}
    if document:
        (directory / _DOCUMENT).write_text(document, encoding="utf-8")
    temporary = directory / f"{_FILE}.part"
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(directory / _FILE)
    return load(directory)


def load(directory: Path) -> Run:
    """Return the run that a directory holds.

    Raises:
        AtollError: `experiment.not_found`: the directory holds no run; `experiment.damaged`: its `run.json` can't be read.
    """
    path = directory / _FILE
    hint = f"move the directory away, and run the experiment again: {directory}"
    try:
        content = json.loads(read_regular(path, _MOST_BYTES))
        _check(content)
        cells = tuple(Cell.from_json(each) for each in content.pop("cells"))
        for cell in cells:
            _ = cell.label, cell.cloud["sites"][0]["name"], cell.database
    except (FileNotFoundError, NotADirectoryError):
        raise AtollError(
            "experiment.not_found", f"{directory} holds no run of an experiment", "`atoll experiment list` lists the runs"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise AtollError("experiment.damaged", f"{path}: {_reason(error)}", hint) from None
    return Run(directory, content, cells)


def _check(content: Any) -> None:
    """Check the content of `run.json`, and remove the key `format`.

    Raises:
        TypeError: the content is not a mapping.
        ValueError: the content lacks a key, or another version of Atoll wrote it.
    """
    if not isinstance(content, dict):
        raise TypeError("expected a mapping")
    if "format" not in content:
        raise ValueError("the key `format` is missing")
    if (found := content.pop("format")) != FORMAT:
        raise ValueError(f"the file was written by another version of atoll: its format is {found!s:.40}, not {FORMAT}")
    try:
        _Content.model_validate(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(map(str, detail["loc"]))
        raise ValueError(f"the key `{where}` is missing" if detail["type"] == "missing" else f"{where}: {detail['msg']}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, KeyError):
        return f"the key `{error.args[0]}` is missing"
    return " ".join(str(error).split())


def find(base: Path, wanted: str, warn: Warn) -> Run:
    """Return a run by the name of its directory below `base`, by the name of its experiment (the latest), or by a path.

    Args:
        base: the directory of all runs.
        wanted: the name or the path.
        warn: called with a line about each damaged run that is skipped.

    Raises:
        AtollError: `experiment.not_found`: no run has this name; `experiment.damaged`: the run of this name can't be read.
    """
    for directory in (base / wanted, Path(wanted)):
        if (directory / _FILE).is_file():
            return load(directory)
    every = runs(base, warn)
    named = [run for run in every if run.about["name"] == wanted]
    if not named:
        known = ", ".join(run.name for run in every) or "none"
        raise AtollError(
            "experiment.not_found", f"no run is called {wanted}: expected one of {known}", "`atoll experiment list` lists the runs"
        )
    return named[-1]


def runs(base: Path, warn: Warn) -> list[Run]:
    """Return all runs below a directory, the oldest first; skip directories without a run, and damaged runs.

    Args:
        base: the directory.
        warn: called with a line for each damaged run.
    """
    found = []
    for path in sorted(base.glob(f"*/{_FILE}")):
        try:
            found.append(load(path.parent))
        except AtollError as error:
            warn(f"a damaged run is skipped: {error.message}: move its directory away")
    return sorted(found, key=lambda run: (run.about["begun"], run.name))
