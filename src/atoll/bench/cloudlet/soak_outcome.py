"""The result of a soak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from atoll.bench.faults.violation import Violation


@dataclass
class SoakOutcome:
    """The result of a soak.

    Attributes:
        seed: the seed.
        counts: numbers of steps, starts, hand-offs, refusals and faults, by name.
        violations: the violations that were found.
        notes: facts about the run, such as the faults that this machine can't inject.
    """

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if no violation was found."""
        return not self.violations

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        told = [f"{each.kind}: {each.what}" for each in self.violations]
        return {"seed": self.seed, **dict(sorted(self.counts.items())), "notes": self.notes, "violations": told}
