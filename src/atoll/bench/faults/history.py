"""The expected state of each resource, computed from the clients' log alone. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from atoll.bench.faults.log import Attempt

Existence = Literal["exists", "deleted", "unknown", "never"]
"""The expected existence of a resource: `exists` or `deleted`; `unknown` if the outcome of its creation or deletion is unknown; `never` if
no request created it."""


@dataclass(frozen=True)
class ResourceHistory:
    """A resource, and all requests about it.

    Attributes:
        name: the resource's name in the schedule.
        attempts: all requests about the resource, in the order in which they were sent.
    """

    name: str
    attempts: Sequence[Attempt]

    @property
    def type(self) -> str:
        """The type of the resource."""
        return self.attempts[0].type

    @cached_property
    def id(self) -> str:
        """The id of the resource; empty if no client received it in an answer."""
        return next((attempt.id for attempt in self.attempts if attempt.id), "")

    @cached_property
    def existence(self) -> Existence:
        """The expected existence of the resource, by the requests about it."""
        made = {attempt.outcome for attempt in self.attempts if attempt.verb == "create"}
        deleted = {attempt.outcome for attempt in self.attempts if attempt.verb == "delete"}
        if not made - {"failed"}:
            return "never"
        if "acknowledged" in deleted:
            return "deleted"
        return "exists" if "acknowledged" in made and "unknown" not in deleted else "unknown"

    @property
    def creation(self) -> Attempt | None:
        """The request that created the resource or may have created it; `None` if none did."""
        return next((attempt for attempt in self.attempts if attempt.verb == "create" and attempt.happened), None)

    def writes(self, field: str) -> list[Attempt]:
        """Return the requests that may have been the last write of a field."""
        return possible_last_writes([attempt for attempt in self.attempts if field in attempt.fields and attempt.happened])

    def values(self, field: str) -> list[Any]:
        """Return the values that a field may have; empty if no request wrote the field."""
        return [attempt.fields[field] for attempt in self.writes(field)]

    def describe(self, verb: str | None = None) -> str:
        """Return a description of the last request about the resource, or of the last request with the action `verb`, such as `create`."""
        chosen = [attempt for attempt in self.attempts if verb in (None, attempt.verb) and attempt.happened]
        return str(chosen[-1]) if chosen else str(self.attempts[-1])


def possible_last_writes(writes: Sequence[Attempt]) -> list[Attempt]:
    """Return those writes of a field that may have been the last.

    At one site, a write that was requested after the answer to another write is later than that one, even if the site's clock is wrong.
    If two sites wrote while they may have been separated, either write may win. A write of unknown outcome may happen at any time.
    """
    return [write for write in writes if not any(_follows(later, write) for later in writes)]


def _follows(later: Attempt, write: Attempt) -> bool:
    known = write.outcome == later.outcome == "acknowledged" and write.answered_s is not None
    return known and later.site == write.site and later.sent_s >= (write.answered_s or 0.0)


def histories(attempts: Iterable[Attempt]) -> dict[str, ResourceHistory]:
    """Group requests by the resource that they concern, and return the resources by name."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.resource, []).append(attempt)
    return {name: ResourceHistory(name, sorted(of_it, key=lambda attempt: attempt.sent_s)) for name, of_it in found.items()}
