from contextlib import nullcontext

import pytest

from atoll.bench.crashes import experiment
from atoll.bench.crashes.experiment import CrashOptions, run
from atoll.bench.crashes.point import Point
from atoll.bench.crashes.trial import Trial
from atoll.bench.workspace import Workspace

POINTS = tuple(Point("paris/nova", name, 1) for name in "abcde")


class Site:
    """Running sites whose processes pass the same points in each trial."""

    def __init__(self, _site):
        pass

    def trial(self, workflow, deaths):
        return Trial(workflow, deaths, len(deaths), (), (), POINTS)


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """Return the function that runs the experiment and tells the points at which it killed a process."""
    monkeypatch.setattr(experiment, "trial_sites", lambda *_: nullcontext())
    monkeypatch.setattr(experiment, "_Tester", Site)

    def planned(**options):
        (tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
        work = Workspace(tmp_path / str(len(list(tmp_path.iterdir())) - 1), {}, lambda _line: None)
        return [point.name for trial in run(CrashOptions(("boot",), **options), work) for point in trial.planned]

    return planned


def test_a_process_dies_at_each_point(planned):
    assert planned() == list("abcde")


def test_a_range_divides_the_points(planned):
    assert planned(last=2) + planned(first=3) == list("abcde")


def test_a_range_counts_the_points_that_the_text_leaves(planned):
    assert planned(only="c", last=1) == ["c"]
    assert planned(only="c", first=2) == []
