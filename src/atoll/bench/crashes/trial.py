"""A trial: the result of a workflow during which processes were killed, and the interface of its executors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atoll.bench.crashes.point import Point, distinct
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.violation import Violation


@dataclass(frozen=True)
class Trial:
    """The result of a workflow during which processes were killed.

    Attributes:
        workflow: the name of the workflow.
        planned: the points at which a process was to die.
        deaths: the number of these points that were reached.
        violations: the violations that were left after the time limit.
        attempts: the client's requests and their outcomes.
        points: the points that were reached.
    """

    workflow: str
    planned: tuple[Point, ...]
    deaths: int
    violations: tuple[Violation, ...]
    attempts: tuple[Attempt, ...]
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the trial, ready for `json.dumps`."""
        return {
            "workflow": self.workflow,
            "deaths": [str(point) for point in self.planned],
            "reached": self.deaths,
            "violations": [f"{each.kind}: {each.what}" for each in self.violations],
            "attempts": [str(each) for each in self.attempts] if self.violations else [],
        }


class Tester(Protocol):
    """Executes the trials of a workflow."""

    def trial(self, workflow: str, deaths: tuple[Point, ...]) -> Trial:
        """Execute a workflow, kill a process at each of these points in order, remove the workflow's effects, and return the result."""


def untried(trials: Sequence[Trial], workflow: str) -> list[Point]:
    """Return the points that a workflow always passes, but at which no process died in any trial.

    A workflow always passes a point if each trial without a death passed it. Other points, such as those of a periodic task, depend on
    timing.

    Args:
        trials: the trials, which may include those of other workflows.
        workflow: the name of the workflow.
    """
    trials = [trial for trial in trials if trial.workflow == workflow]
    quiet = [trial.points for trial in trials if not trial.planned]
    tried = {point for trial in trials for point in trial.planned[: trial.deaths]}
    return [point for point in distinct(quiet[0]) if point not in tried and all(point in points for points in quiet)]
