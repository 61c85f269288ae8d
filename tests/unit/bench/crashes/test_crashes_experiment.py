from contextlib import nullcontext
from itertools import count

import pytest

from atoll.bench.crashes import experiment
from atoll.bench.crashes.experiment import CrashOptions, run
from atoll.bench.crashes.point import Point
from atoll.bench.crashes.trial import Trial
from atoll.bench.faults.violation import Violation
from atoll.bench.workspace import Workspace


class Site:
    """Running sites that pass the same points in each trial.

    Attributes:
        points: the points.
        skipped: the names of the points that no process reaches after another process has died.
        wrong: the names of the points at which a death is a violation.
    """

    points = tuple(Point("paris/nova", name, 1) for name in "abcde")
    skipped = ""
    wrong = ""

    def __init__(self, _site):
        pass

    def trial(self, workflow, deaths):
        reached = 0
        while reached < len(deaths) and not (reached and deaths[reached].name in self.skipped):
            reached += 1
        violations = tuple(Violation("lost", each.name) for each in deaths[:reached] if each.name in self.wrong)
        return Trial(workflow, deaths, reached, violations, (), self.points)


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """Return the function that runs the experiment and tells the points of each trial with a death: their names, one string for a trial."""
    monkeypatch.setattr(experiment, "trial_sites", lambda *_: nullcontext())
    monkeypatch.setattr(experiment, "_Tester", Site)
    numbers = count()

    def trials(**options):
        root = tmp_path / str(next(numbers))
        root.mkdir()
        done = run(CrashOptions(("boot",), **options), Workspace(root, {}, lambda _line: None))
        return ["".join(point.name for point in trial.planned) for trial in done if trial.planned]

    return trials


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(Site, "points", tuple(Point(f"paris/{'nova' if name in 'abc' else 'glance'}", name, 1) for name in "abcde"))


def test_a_process_dies_at_each_point(trials):
    assert trials() == list("abcde")


def test_a_range_divides_the_points(trials):
    assert trials(last=2) + trials(first=3) == list("abcde")


def test_a_range_counts_the_points_that_the_text_leaves(trials):
    assert trials(only="c", last=1) == ["c"]
    assert trials(only="c", first=2) == []


def test_points_of_one_process_are_not_tried_together(trials):
    assert trials(together=3) == list("abcde")


def test_points_of_different_processes_are_tried_together(trials, two_processes):
    assert trials(together=3) == ["ad", "be", "c"]


def test_a_point_that_was_not_reached_together_is_tried_alone(trials, two_processes, monkeypatch):
    monkeypatch.setattr(Site, "skipped", "d")
    assert trials(together=2) == ["ad", "d", "be", "c"]


def test_each_point_of_a_trial_with_violations_is_tried_alone(trials, two_processes, monkeypatch):
    monkeypatch.setattr(Site, "wrong", "e")
    assert trials(together=2) == ["ad", "be", "b", "e", "c"]
