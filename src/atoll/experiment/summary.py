"""Summaries of a run: its cells with medians, and its samples by group, which is all repetitions of one combination of factors."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.experiment.run import Run
from atoll.experiment.samples import Sample
from atoll.experiment.sweep import Cell

Key = tuple[str, str, str]
"""The key of a group: the label of its factors, its operation, and `Group.place`, the kind of its users' sites."""


@dataclass
class Group:
    """All samples of one operation in the repetitions of one combination of factors.

    Attributes:
        factors: the factors.
        operation: the operation.
        place: "full" or "compute", the kind of the sites where the users are; empty if all sites of the cloud are of one kind.
        latencies_s: for each cell, the latencies of the successful operations, in seconds.
        operations: the number of operations, failed ones included.
        failures: the number of operations that failed.
        database: the databases of the full sites, such as `mariadb`.
        flush: the settings by which these databases flush commits to the disk, as the running servers reported them; empty in runs of older
            versions.
        each_commit: whether a commit was on the disk when COMMIT returned; `None` if `flush` is empty.
    """

    factors: dict[str, Any]
    operation: str
    place: str
    latencies_s: list[list[float]] = field(default_factory=list)
    operations: int = 0
    failures: int = 0
    database: str = ""
    flush: str = ""
    each_commit: bool | None = None

    @property
    def all_s(self) -> list[float]:
        """The latencies of all cells, in seconds."""
        return [latency for cell in self.latencies_s for latency in cell]


def groups(run: Run) -> dict[Key, Group]:
    """Return the samples of all finished cells of a run, by group, in the order of the labels."""
    states = run.states()
    found: dict[Key, Group] = {}
    for cell in run.cells:
        if states[cell.id].state == "done":
            _add(found, cell, run.samples(cell), states[cell.id].facts)
    return dict(sorted(found.items(), key=lambda item: [natural(word) for word in item[0]]))


def natural(text: str) -> list[tuple[bool, float, str]]:
    """Return a key that sorts texts by the values of the numbers within them: 25ms before 100ms."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(number % 2 == 1, float(part) if number % 2 else 0.0, part) for number, part in enumerate(parts)]


def short_names(cells: Sequence[Cell], without: str = "") -> dict[str, str]:
    """Return a short name of each cell's label: the values of the factors that vary among the cells.

    Args:
        cells: the cells.
        without: the name of a factor that the names leave out; empty for none.
    """
    factors = {cell.label: cell.factors for cell in cells}
    names = dict.fromkeys(name for each in factors.values() for name in each if name != without)
    varying = [name for name in names if len({str(each.get(name)) for each in factors.values()}) > 1]
    plain = {"architecture", "workload", "operation", "transport"}
    return {
        label: ", ".join(str(each[name]) if name in plain else f"{name} {each[name]}" for name in varying if name in each) or "all"
        for label, each in factors.items()
    }


def _group(cell: Cell, operation: str, place: str, facts: Mapping[str, Any]) -> Group:
    flush, each_commit = str(facts.get("flush", "")), facts.get("flushes_each_commit")
    return Group(dict(cell.factors), operation, place, database=cell.database, flush=flush, each_commit=each_commit)


def _add(found: dict[Key, Group], cell: Cell, samples: list[Sample], facts: Mapping[str, Any]) -> None:
    kinds = {site["name"]: site.get("kind", "full") for site in cell.cloud["sites"]}
    mixed = len(set(kinds.values())) > 1
    latencies: dict[Key, list[float]] = {}
    for sample in samples:
        place = kinds[sample.site] if mixed else ""
        key = cell.label, sample.operation, place
        group = found.setdefault(key, _group(cell, sample.operation, place, facts))
        group.operations += 1
        if sample.ok:
            latencies.setdefault(key, []).append(sample.latency_s)
        else:
            group.failures += 1
    for key, values in latencies.items():
        found[key].latencies_s.append(values)


def cells(run: Run) -> list[dict[str, Any]]:
    """Return the cells of a run with their states and the median latency of each operation, ready for `json.dumps`."""
    states = run.states()
    told = []
    for cell in run.cells:
        state = states[cell.id]
        medians = medians_s(run.samples(cell)) if state.state == "done" else {}
        told.append(
            {
                "id": cell.id,
                "label": cell.label,
                "factors": dict(cell.factors),
                "repetition": cell.repetition,
                "database": cell.database,
                "state": state.state,
                "error": state.error,
                "facts": dict(state.facts),
                "medians_s": medians,
            }
        )
    return told


def medians_s(samples: list[Sample]) -> dict[str, float]:
    """Return the median latency of the successful samples of each operation, in seconds."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        if sample.ok:
            found.setdefault(sample.operation, []).append(sample.latency_s)
    return {operation: statistics.median(values) for operation, values in found.items()}
