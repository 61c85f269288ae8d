"""The experiment: runs a workflow without a death to record its crash points, then once for each point, at which a process is killed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from atoll.bench.crashes.client import RetryingClient
from atoll.bench.crashes.join import JoinTester
from atoll.bench.crashes.point import Plan, Point, distinct
from atoll.bench.crashes.trial import Tester, Trial
from atoll.bench.crashes.trial_sites import SITES, TrialSites, trial_sites
from atoll.bench.crashes.workflow import JOIN, WORKFLOWS
from atoll.bench.faults.violation import Violation
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

TRIES = 3
"""Greatest number of trials of a point that the workflow always passes; further trials follow only until a process dies there."""

QUIET = 2
"""Number of runs without a death. Points that all these runs pass do not depend on timing, so a process must die at each (`untried`)."""


@dataclass(frozen=True)
class CrashOptions:
    """The choice of the trials.

    Attributes:
        workflows: the names of the workflows.
        sample: the number of points to choose at random from all workflows; 0 means all points.
        seed: the seed of the random sample.
        only: a text that the names of the chosen points contain; empty for all points.
        again: the number of trials with a second death, during the recovery from the first, that follow each trial.
        first: the number, from 1, of the first of the points that `only` leaves, so that a long experiment can be divided or continued.
        last: the number of the last of these points; `None` means all points from the first.
        together: the greatest number of points of different processes that are tried in one trial (`_groups`).
    """

    workflows: tuple[str, ...]
    sample: int = 0
    seed: int = 0
    only: str = ""
    again: int = 0
    first: int = 1
    last: int | None = None
    together: int = 1


def run(options: CrashOptions, work: Workspace) -> Iterator[Trial]:
    """Run the whole experiment; yield each trial, the first two of each workflow without a death.

    Args:
        options: the choice of the trials.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    for sites in SITES[:1], SITES:
        names = tuple(name for name in options.workflows if name in WORKFLOWS and WORKFLOWS[name].sites == len(sites))
        if names:
            work.say(f"{len(sites)} {'sites' if len(sites) > 1 else 'site'}")
            place = work.root / f"of-{len(sites)}"
            place.mkdir()
            with trial_sites(place, sites, work.environment) as those:
                yield from _trials(_Tester(those), names, options, work.say)
    if JOIN in options.workflows:
        work.say("starting a site, which other sites will join")
        place = work.root / JOIN
        place.mkdir()
        with trial_sites(place, SITES[:1], work.environment) as those:
            yield from _trials(JoinTester(those, place, work.environment), (JOIN,), options, work.say)


def _trials(tester: Tester, names: Sequence[str], options: CrashOptions, say: Say) -> Iterator[Trial]:
    quiet = []
    for name in names:
        tester.trial(name, ())  # fill caches, so that later runs reach the same points
        quiet += (runs := [tester.trial(name, ()) for _ in range(QUIET)])
        say(f"{name}: {len(_points(runs))} points")
        yield from runs
    planned = _chosen(quiet, options)
    done = 0
    for name, points in _groups(planned, options.together):
        alone = points
        if len(points) > 1:
            yield (trial := tester.trial(name, points))
            say(f"{done + len(points)}/{len(planned)} {name}: {', then '.join(map(str, points))}{_outcome(trial)}")
            alone = points if trial.violations else points[trial.deaths :]
        for point in alone:
            steady = all(point in each.points for each in quiet if each.workflow == name)
            yield (trial := _repeated_trial(tester, name, point, TRIES if steady else 1))
            say(f"{done + points.index(point) + 1}/{len(planned)} {name}: {point}{_outcome(trial)}")
            if trial.deaths and not trial.violations:
                yield from _second(tester, trial, options, say)
        done += len(points)


def _outcome(trial: Trial) -> str:
    reached = "" if trial.deaths == len(trial.planned) else f" ({trial.deaths} of {len(trial.planned)} reached)"
    return reached + (f": {trial.violations[0].what}" if trial.violations else "")


def _groups(planned: Sequence[tuple[str, Point]], size: int) -> Iterator[tuple[str, tuple[Point, ...]]]:
    """Group points, each of another process of the same workflow, in the order in which they are reached.

    A trial of a group has several deaths, so it takes less time than a trial for each point. After a trial with violations, each point is
    tried alone, to find the one that caused them; so are points that were not reached, because a recovery can take another path.
    """
    left = list(planned)
    while left:
        name, first = left.pop(0)
        group = {first.process: first}
        for other in [each for each in left if each[0] == name]:
            if len(group) < size and other[1].process not in group:
                group[other[1].process] = other[1]
                left.remove(other)
        yield name, tuple(group.values())


def _repeated_trial(tester: Tester, name: str, point: Point, tries: int) -> Trial:
    """Try a point; repeat the trial if the point was not reached, because the order of processes' steps depends a little on timing."""
    for _ in range(tries - 1):
        trial = tester.trial(name, (point,))
        if trial.deaths or trial.violations:
            return trial
    return tester.trial(name, (point,))


def _second(tester: Tester, first: Trial, options: CrashOptions, say: Say) -> Iterator[Trial]:
    """Repeat a trial with a second death during the recovery from the first."""
    after = [point for point in distinct(first.points) if point.life == 1]
    for point in Random(options.seed).sample(after, min(options.again, len(after))):
        trial = tester.trial(first.workflow, (*first.planned, point))
        say(f"… and again at {point}{_outcome(trial)}")
        yield trial


def _chosen(quiet: Sequence[Trial], options: CrashOptions) -> list[tuple[str, Point]]:
    names = dict.fromkeys(trial.workflow for trial in quiet)
    found = [(name, point) for name in names for point in _points([each for each in quiet if each.workflow == name])]
    found = [(name, point) for name, point in found if options.only in str(point)][options.first - 1 : options.last]
    if not options.sample or options.sample >= len(found):
        return found
    indices = Random(options.seed).sample(range(len(found)), options.sample)
    return [found[index] for index in sorted(indices)]


def _points(trials: Sequence[Trial]) -> list[Point]:
    return distinct(point for trial in trials for point in trial.points)


class _Tester:
    """Executes the trials of workflows at running sites.

    Args:
        site: the running sites.
    """

    def __init__(self, site: TrialSites) -> None:
        self._site = site
        self._numbers = count(1)

    def trial(self, workflow: str, deaths: tuple[Point, ...]) -> Trial:
        """Run a workflow, delete the resources that are left, and return the result; resources that can't be removed are violations.

        Args:
            workflow: the name of the workflow.
            deaths: the points at which a process dies, in order.
        """
        site, client, steps = self._site, self._site.client(), WORKFLOWS[workflow]
        site.sign_in()
        round_ = f"round-{next(self._numbers)}"
        resource = steps.prepare(client)
        restarts = {name: status.restarts for name, status in site.processes().items()}
        site.board.begin(Plan(round_, deaths))
        violations: list[Violation] = []
        try:
            steps.run(client, resource)
        except AtollError as error:
            violations.append(Violation("unhealthy", error.message))
        died, wrong = self._recovered(round_, deaths, restarts, client)
        violations += wrong
        site.board.end()
        points = tuple(site.board.reached(round_))
        for process in died:
            site.relieve(process)
        violations += [Violation(each.kind, f"after cleaning: {each.what}") for each in site.clean()]
        return Trial(workflow, deaths, len(died), tuple(violations), tuple(client.attempts), points)

    def _recovered(
        self, round_: str, deaths: tuple[Point, ...], restarts: Mapping[str, int], client: RetryingClient
    ) -> tuple[list[str], list[Violation]]:
        """Wait until the processes that died are ready again and no violations are left; further planned deaths may happen meanwhile.

        Returns:
            The names of the processes that died, and the violations that are left.
        """
        while True:
            died = [point.process for point in deaths[: self._site.board.deaths(round_)]]
            self._site.await_ready(restarts, died)
            if any(not name.startswith(f"{client.site}/") for name in died):
                client.expects_no_copies = False  # a process that removes copies died: the copies stay until the original is deleted
            wrong = self._site.settled(client)
            if self._site.board.deaths(round_) == len(died):
                return died, wrong
