"""What must hold of each thing after all that clients asked for: from their log alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from atoll.bench.faults.log import Attempt

Fate = Literal["there", "gone", "either", "never"]
"""What a thing must be: `either` if whether it was made, or deleted, is unknown; `never` if nothing that was asked for made it."""


@dataclass(frozen=True)
class Thing:
    """One thing, and all that was asked for about it.

    Attributes:
        name: what the plan calls it.
        attempts: in the order in which they were sent.
    """

    name: str
    attempts: Sequence[Attempt]

    @property
    def type(self) -> str:
        """Of the thing."""
        return self.attempts[0].type

    @cached_property
    def id(self) -> str:
        """Its id; empty if no client ever learned it."""
        return next((attempt.id for attempt in self.attempts if attempt.id), "")

    @cached_property
    def fate(self) -> Fate:
        """What must have become of it."""
        made = {attempt.outcome for attempt in self.attempts if attempt.verb == "create"}
        deleted = {attempt.outcome for attempt in self.attempts if attempt.verb == "delete"}
        if not made - {"failed"}:
            return "never"
        if "acknowledged" in deleted:
            return "gone"
        return "there" if "acknowledged" in made and "unknown" not in deleted else "either"

    @property
    def maker(self) -> Attempt | None:
        """The request that made it, or may have."""
        return next((attempt for attempt in self.attempts if attempt.verb == "create" and attempt.happened), None)

    def writes(self, field: str) -> list[Attempt]:
        """The requests that wrote a field, or may have, and were not certainly followed by another."""
        return standing([attempt for attempt in self.attempts if field in attempt.fields and attempt.happened])

    def values(self, field: str) -> list[Any]:
        """The values that a field may have; none if nobody wrote it."""
        return [attempt.fields[field] for attempt in self.writes(field)]

    def told(self, verb: str | None = None) -> str:
        """The last request, or the last of a kind, in words."""
        chosen = [attempt for attempt in self.attempts if verb in (None, attempt.verb) and attempt.happened]
        return str(chosen[-1]) if chosen else str(self.attempts[-1])


def standing(writes: Sequence[Attempt]) -> list[Attempt]:
    """The writes of which one is the last.

    At one site the later of two writes wins, however wrong its clock is: what was sent after another had been answered comes after it.
    Of two sites that wrote while they may have been apart, either may win. What is unknown may happen at any time.
    """
    return [write for write in writes if not any(_follows(later, write) for later in writes)]


def _follows(later: Attempt, write: Attempt) -> bool:
    known = write.outcome == later.outcome == "acknowledged" and write.answered_s is not None
    return known and later.site == write.site and later.sent_s >= (write.answered_s or 0.0)


def things(attempts: Iterable[Attempt]) -> dict[str, Thing]:
    """All things that anything was asked for about, by name."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.thing, []).append(attempt)
    return {name: Thing(name, sorted(of_it, key=lambda attempt: attempt.sent_s)) for name, of_it in found.items()}
