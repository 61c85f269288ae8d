"""Does a workflow once to see its points, then once for each of them, with a death there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from atoll.bench.crashes.client import Insistent
from atoll.bench.crashes.ground import SITES, Ground, ground
from atoll.bench.crashes.point import Plan, Point, distinct
from atoll.bench.crashes.workflow import WORKFLOWS, Workflow
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.violation import Violation
from atoll.bench.measure import Say
from atoll.errors import AtollError


@dataclass(frozen=True)
class Trial:
    """A workflow with deaths.

    Attributes:
        workflow: its name.
        planned: the points at which a process was to die.
        deaths: how many were reached.
        violations: what was not as it should be in the end.
        attempts: what the client asked for, and was told.
        points: those that were reached.
    """

    workflow: str
    planned: tuple[Point, ...]
    deaths: int
    violations: tuple[Violation, ...]
    attempts: tuple[Attempt, ...]
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "workflow": self.workflow,
            "deaths": [str(point) for point in self.planned],
            "reached": self.deaths,
            "violations": [f"{each.kind}: {each.what}" for each in self.violations],
            "attempts": [str(each) for each in self.attempts] if self.violations else [],
        }


@dataclass(frozen=True)
class Options:
    """How much is tried.

    Attributes:
        workflows: their names.
        sample: so many points of all workflows together; 0 for all points of each.
        seed: of the sample.
        only: points whose text has this in it; empty for any.
        again: after each death, so many second deaths in what the site does to recover.
    """

    workflows: tuple[str, ...]
    sample: int = 0
    seed: int = 0
    only: str = ""
    again: int = 0


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> Iterator[Trial]:
    """Do the whole experiment; yields each trial, the first of each workflow without a death.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the commands that are run.
        say: told what goes on.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    for sites in SITES[:1], SITES:
        names = tuple(name for name in options.workflows if WORKFLOWS[name].sites == len(sites))
        if names:
            say(f"{len(sites)} {'sites' if len(sites) > 1 else 'site'}")
            place = root / f"of-{len(sites)}"
            place.mkdir()
            with ground(place, sites, environment) as those:
                yield from _trials(_Tester(those), names, options, say)


def _trials(tester: _Tester, names: Sequence[str], options: Options, say: Say) -> Iterator[Trial]:
    quiet = []
    for name in names:
        tester.trial(WORKFLOWS[name], ())  # what is cached from now on is no point later
        quiet.append(tester.trial(WORKFLOWS[name], ()))
        say(f"{name}: {len(quiet[-1].points)} points")
        yield quiet[-1]
    for done, (name, point) in enumerate(planned := _chosen(quiet, options)):
        trial = tester.trial(WORKFLOWS[name], (point,))
        wrong = f": {trial.violations[0].what}" if trial.violations else ""
        say(f"{done + 1}/{len(planned)} {name}: {point}{'' if trial.deaths else ' (not reached)'}{wrong}")
        yield trial
        if trial.deaths and not trial.violations:
            yield from tester.second(trial, options, say)


def _chosen(quiet: Sequence[Trial], options: Options) -> list[tuple[str, Point]]:
    found = [(trial.workflow, point) for trial in quiet for point in distinct(trial.points) if options.only in str(point)]
    if not options.sample or options.sample >= len(found):
        return found
    indices = Random(options.seed).sample(range(len(found)), options.sample)  # noqa: S311 - reproducible, not secret
    return [found[index] for index in sorted(indices)]


class _Tester:
    """Does trials on sites.

    Args:
        site: those that are up.
    """

    def __init__(self, site: Ground) -> None:
        self._site = site
        self._numbers = count(1)

    def trial(self, workflow: Workflow, deaths: tuple[Point, ...]) -> Trial:
        """Do a workflow; afterwards the site is clean again, and if it isn't, that is a violation."""
        site, client = self._site, self._site.client()
        site.sign_in()
        round_ = f"round-{next(self._numbers)}"
        thing = workflow.prepare(client)
        restarts = {name: status.restarts for name, status in site.processes().items()}
        site.board.begin(Plan(round_, deaths))
        violations: list[Violation] = []
        try:
            workflow.run(client, thing)
        except AtollError as error:
            violations.append(Violation("unhealthy", error.message))
        died, wrong = self._recovered(round_, deaths, restarts, client)
        violations += wrong
        site.board.end()
        points = tuple(site.board.reached(round_))
        for process in died:
            site.relieve(process)
        violations += [Violation(each.kind, f"after cleaning: {each.what}") for each in site.clean()]
        return Trial(workflow.name, deaths, len(died), tuple(violations), tuple(client.attempts), points)

    def _recovered(
        self, round_: str, deaths: tuple[Point, ...], restarts: Mapping[str, int], client: Insistent
    ) -> tuple[list[str], list[Violation]]:
        """Wait until those who died are back and all is quiet, which may take further deaths.

        Returns:
            The names of those who died, and what is not as it should be.
        """
        while True:
            died = [point.process for point in deaths[: self._site.board.deaths(round_)]]
            self._site.await_ready(restarts, died)
            wrong = self._site.settled(client.attempts)
            if self._site.board.deaths(round_) == len(died):
                return died, wrong

    def second(self, first: Trial, options: Options, say: Say) -> Iterator[Trial]:
        """Do it again with a second death, in what followed the first."""
        after = [point for point in distinct(first.points) if point.life == 1]
        for point in Random(options.seed).sample(after, min(options.again, len(after))):  # noqa: S311
            trial = self.trial(WORKFLOWS[first.workflow], (*first.planned, point))
            wrong = f": {trial.violations[0].what}" if trial.violations else ""
            say(f"… and again at {point}{'' if trial.deaths > 1 else ' (not reached)'}{wrong}")
            yield trial
