from contextlib import contextmanager

import pytest

from atoll.bench.crashes import experiment
from atoll.bench.crashes.experiment import CrashOptions
from atoll.bench.crashes.trial import Trial


@pytest.fixture
def options(monkeypatch, tmp_path):
    """The options of each experiment that the command began."""
    begun = []

    @contextmanager
    def workspace(_environment, _say):
        yield tmp_path

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)
    monkeypatch.setattr(experiment, "run", lambda options, _work: begun.append(options) or [Trial("boot", (), 0, (), (), ())])
    return begun


def test_range_of_points(atoll, options):
    assert atoll("bench", "crashes", "--workflow", "boot", "--points", "56-110").code == 0
    assert atoll("bench", "crashes", "--workflow", "boot", "--points", "56-").code == 0
    assert atoll("bench", "crashes", "--workflow", "boot", "--together", "3").code == 0
    assert options == [CrashOptions(("boot",), first=56, last=110), CrashOptions(("boot",), first=56), CrashOptions(("boot",), together=3)]


@pytest.mark.parametrize("wrong", ["0-5", "5-3", "5", "-5", "a-b", "1-2-3", ""])
def test_wrong_range_starts_nothing(atoll, options, wrong):
    ran = atoll("bench", "crashes", "--points", wrong)
    assert ran.code != 0
    assert "expected a range such as 56-110" in ran.err
    assert not options
