"""One fault of a cell, read from the data of the cell, which `atoll.experiment.faults` has checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SpanPoint:
    """A point of a workflow; see `atoll.experiment.faults.WorkflowPoint`.

    Attributes:
        span: the pattern of the span's name.
        site: the site of the process that records the span; `None` means any site.
        service: the service that records the span; `None` means any service.
        edge: "start" or "end" of the span.
        number: which of the matching spans is meant, from 1.
    """

    span: str
    site: str | None = None
    service: str | None = None
    edge: str = "start"
    number: int = 1


@dataclass(frozen=True)
class FaultStep:
    """One fault of a cell.

    Attributes:
        number: the number of the fault in its scenario, from 1.
        kind: a key of `kinds.KINDS`.
        target: a site, a link such as `site-1:site-2`, or a process such as `site-1/nova`.
        cause: the time or the point at which the fault is to happen, as text.
        at_s: seconds from the start of the measured operations; `None` if the fault happens at a point.
        when: the point of a workflow; `None` if the fault happens at a time.
        lasts_s: seconds until the fault is undone; `None` means until the end of the workload.
        changes: fields of `atoll.cloud.network.Wire`, for degraded links.
        ahead_s: seconds by which the clock is ahead of the right time; negative if it is behind.
    """

    number: int
    kind: str
    target: str
    cause: str = ""
    at_s: float | None = None
    when: SpanPoint | None = None
    lasts_s: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    ahead_s: float = 0.0

    @classmethod
    def from_json(cls, number: int, data: Mapping[str, Any]) -> FaultStep:
        """Return a fault from the data of a cell.

        Args:
            number: the number of the fault in its scenario, from 1.
            data: the fault, as `atoll.experiment.faults.Step.to_json` returned it.
        """
        when = data.get("when")
        return cls(number, **{**data, "when": SpanPoint(**when) if when else None})

    @property
    def process(self) -> bool:
        """True if the target is a process, not a site or a link."""
        return "/" in self.target

    def __str__(self) -> str:
        return f"{self.kind} {self.target} ({self.cause})"
