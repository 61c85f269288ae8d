"""Summarises operations before, during and after the faults of a cell, at the sites that a fault concerns and elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.experiment.run import Run
from atoll.experiment.samples import FaultEvent, Sample
from atoll.experiment.sweep import Cell

PHASES = ("before", "during", "after")
"""The phases in their order. A time between two faults belongs to "after"."""

CONCERNED, ELSEWHERE = "concerned", "elsewhere"


@dataclass
class Phase:
    """The operations of one kind during one phase, in all repetitions of one combination of factors.

    Attributes:
        label: the factors as a text.
        operation: the operation.
        users: "concerned" for users at a site that is the target of a fault, or an end of a link that is; else "elsewhere".
        phase: "before", "during" or "after" the faults, by the intended starts of the operations.
        factors: the factors.
        latencies_s: for each cell, the latencies of the successful operations, in seconds.
        failures: the number of operations that failed.
    """

    label: str
    operation: str
    users: str
    phase: str
    factors: Mapping[str, Any] = field(default_factory=dict)
    latencies_s: list[list[float]] = field(default_factory=list)
    failures: int = 0

    @property
    def all_s(self) -> list[float]:
        """The latencies of all cells, in seconds."""
        return [latency for cell in self.latencies_s for latency in cell]

    @property
    def operations(self) -> int:
        """The number of operations, failed ones included."""
        return len(self.all_s) + self.failures


def phases(run: Run) -> list[Phase]:
    """Return the phases of all finished cells with faults, sorted by label, operation, users and phase."""
    states, found = run.states(), dict[tuple[str, str, str, str], Phase]()
    for cell in run.cells:
        if cell.faults and states[cell.id].state == "done":
            _add(found, cell, run.samples(cell), run.faults(cell))
    return sorted(found.values(), key=lambda each: (each.label, each.operation, each.users, PHASES.index(each.phase)))


def _add(found: dict[tuple[str, str, str, str], Phase], cell: Cell, samples: Iterable[Sample], events: Sequence[FaultEvent]) -> None:
    concerned = frozenset(sites_of(events))
    latencies: dict[tuple[str, str, str, str], list[float]] = {}
    for sample in samples:
        key = cell.label, sample.operation, CONCERNED if sample.site in concerned else ELSEWHERE, phase_of(sample.intended_s, events)
        phase = found.setdefault(key, Phase(*key, dict(cell.factors)))
        if sample.ok:
            latencies.setdefault(key, []).append(sample.latency_s)
        else:
            phase.failures += 1
    for key, values in latencies.items():
        found[key].latencies_s.append(values)


def phase_of(at_s: float, events: Sequence[FaultEvent]) -> str:
    """Return the phase of a time in seconds from the start of the measured operations."""
    if any(event.started_s <= at_s < event.ended_s for event in events):
        return "during"
    return "before" if all(at_s < event.started_s for event in events) else "after"


def sites_of(events: Iterable[FaultEvent]) -> Iterator[str]:
    """Yield the sites that are targets of faults, or ends of links that are."""
    for event in events:
        yield from event.target.partition("/")[0].split(":")
