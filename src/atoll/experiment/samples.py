"""Raw data in Parquet: rows for measured operations, faults, measured values, and readings of the machine, the sites and the links.

The Parquet library is imported only here, when samples are written or read, so that the processes of sites do not have it in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from atoll.errors import AtollError


class Sample(NamedTuple):
    """One operation that was measured.

    Attributes:
        operation: its name, such as `boot`.
        site: the site of the user who started it.
        intended_s: seconds from the start of the workload until the operation should have started.
        started_s: seconds from the start of the workload until the operation started.
        ended_s: seconds from the start of the workload until the operation ended.
        ok: whether it succeeded.
        error: the reason why it failed; empty if it succeeded.
        database: the databases of the full sites of the cell's cloud, such as `mariadb`; empty in samples of older versions.
    """

    operation: str
    site: str
    intended_s: float
    started_s: float
    ended_s: float
    ok: bool = True
    error: str = ""
    database: str = ""

    @property
    def latency_s(self) -> float:
        """Seconds from the intended start to the end: it includes the wait before a late start."""
        return self.ended_s - self.intended_s


class Reading(NamedTuple):
    """One reading of the machine's load while a cell runs.

    Attributes:
        at_s: seconds from the start of the cell.
        idle: idle share of the machine's processor time since the reading before, 0 to 1.
        available_mb: available memory of the machine, in megabytes (10^6 bytes).
    """

    at_s: float
    idle: float
    available_mb: float


class FaultEvent(NamedTuple):
    """One fault that happened in a cell, with its times in seconds from the start of the measured operations.

    Attributes:
        number: the number of the fault in its scenario, from 1.
        kind: the kind of the fault, such as `cut`.
        target: the site, link or process that the fault concerns.
        cause: the time, or the point of a workflow, at which the fault was to happen.
        started_s: the time at which the injection began.
        effective_s: the time from which the fault was in effect.
        undone_s: the time at which the undoing of the fault began.
        ended_s: the time from which the fault had no effect any more; for a stopped site, the time at which it was ready again.
        error: the reason why the fault could not be injected or undone; empty if both succeeded.
    """

    number: int
    kind: str
    target: str
    cause: str
    started_s: float
    effective_s: float
    undone_s: float
    ended_s: float
    error: str = ""


class UsageReading(NamedTuple):
    """One reading of the processes of a site while a cell runs.

    Attributes:
        at_s: seconds from the start of the measured operations; negative before it.
        site: the site; `shared` stands for the processes that serve all sites: supervisor, fork servers and emulated WAN.
        cpu_s: processor seconds that the site's processes have used since the first reading. The time that a process used between its
            last reading and its end is missing.
        processes: the number of processes.
        memory_mb: their proportional set size in megabytes (10^6 bytes); `None` in most readings, because it takes long to read.
    """

    at_s: float
    site: str
    cpu_s: float
    processes: int
    memory_mb: float | None = None


class TrafficReading(NamedTuple):
    """One reading of the counters of one direction of a link, as the emulated WAN counts them. Counts begin with the first reading.

    Attributes:
        at_s: seconds from the start of the measured operations; negative before it.
        source: the site or router at the sending end.
        target: the site or router at the receiving end.
        packets: the number of IP packets that the source has sent.
        bytes: their bytes.
        dropped: the number of those packets that were lost at random, dropped at a full queue, or dropped because the link was cut.
    """

    at_s: float
    source: str
    target: str
    packets: int
    bytes: int
    dropped: int


class Value(NamedTuple):
    """One measured number of a cell that is not a latency, such as the traffic of an idle member.

    Attributes:
        name: the name of the quantity.
        unit: the unit of the number.
        value: the number.
    """

    name: str
    unit: str
    value: float


Row = Sample | Reading | FaultEvent | UsageReading | TrafficReading | Value
"""A row of one of the tables of a cell."""

TABLES: Mapping[str, type[Row]] = {
    "samples": Sample,
    "machine": Reading,
    "faults": FaultEvent,
    "usage": UsageReading,
    "traffic": TrafficReading,
    "values": Value,
}
"""The class of the rows of each table, by the name of the table, which is also that of the directory of its files."""

_Row = TypeVar("_Row", bound=Row)

_MAGIC = b"PAR1"
_METADATA = "atoll"
_TEXTS = ("operation", "site", "error", "database", "kind", "target", "cause", "source", "name", "unit")
_TYPES = {
    **dict.fromkeys(_TEXTS, "utf8"),
    **dict.fromkeys(("number", "processes", "packets", "bytes", "dropped"), "int64"),
    "ok": "bool",
}
"""Parquet types of the columns that do not hold floating-point numbers."""


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        hint = "`make install` in a checkout installs it, or `pip install 'atoll[experiment]'`"
        raise AtollError(
            "experiment.requirement", f"samples are written with the Python packages arro3-core and arro3-io: {error}", hint
        ) from None


def check_requirements() -> None:
    """Check that samples can be written, before anything is measured.

    Raises:
        AtollError: `experiment.requirement`: a library is missing.
    """
    _library("arro3.core")
    _library("arro3.io")


def write(path: Path, rows: Iterable[tuple[Any, ...]], kind: type[Row], metadata: Mapping[str, Any]) -> None:
    """Write rows to a Parquet file, whole or not at all.

    Args:
        path: the file.
        rows: the rows, all of one kind.
        kind: the class of the rows, whose fields are the columns.
        metadata: the data needed to repeat the run, ready for `json.dumps`; it becomes a part of the file.

    Raises:
        AtollError: `experiment.requirement`: a library is missing.
    """
    core, io = _library("arro3.core"), _library("arro3.io")
    columns = list(zip(*rows, strict=True)) or [()] * len(kind._fields)
    fields, arrays = [], []
    for name, values in zip(kind._fields, columns, strict=True):
        data_type = getattr(core.DataType, _TYPES.get(name, "float64"))()
        fields.append(core.Field(name, data_type))
        arrays.append(core.Array(list(values), data_type))
    schema = core.Schema(fields, metadata={_METADATA: json.dumps(metadata)})
    table = core.Table.from_arrays(arrays, schema=schema)
    temporary = path.with_suffix(".part")
    io.write_parquet(table, str(temporary))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def read(path: Path) -> tuple[list[Sample], dict[str, Any]]:
    """Return the samples of a Parquet file, and its metadata.

    Raises:
        AtollError: `experiment.damaged`: the file is missing or holds no samples; `experiment.requirement`: a library is missing.
    """
    rows, metadata = _read(path, Sample)
    return [Sample(*row) for row in rows], metadata


def read_rows(path: Path, kind: type[_Row]) -> list[_Row]:
    """Return the rows of a class that a Parquet file holds; see `read`."""
    return [kind(*row) for row in _read(path, kind)[0]]


def _read(path: Path, kind: Any) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    io = _library("arro3.io")
    try:
        _check_whole(path)
        table = io.read_parquet(str(path)).read_all()
        columns = [_column(table, name, kind._field_defaults) for name in kind._fields]
        said = {_text(key): _text(value) for key, value in table.schema.metadata.items()}
        return list(zip(*columns, strict=True)), json.loads(said.get(_METADATA, "{}"))
    except BaseException as error:  # the library's panic is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        message = f"{path}: expected a Parquet file written by a run: {error}"
        raise AtollError("experiment.damaged", message, "run the cell again: `atoll experiment run`") from None


def _column(table: Any, name: str, defaults: Mapping[str, Any]) -> list[Any]:
    """Return the values of a column; a file of an older version may lack one that has a default."""
    if name in defaults and name not in table.column_names:
        return [defaults[name]] * int(table.num_rows)
    return list(table.column(name).to_pylist())


def _check_whole(path: Path) -> None:
    content = path.read_bytes()
    if not (content.startswith(_MAGIC) and content.endswith(_MAGIC)):
        raise ValueError("the file is not a whole Parquet file")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
