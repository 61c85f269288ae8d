"""Deaths at crash points: nothing acknowledged is lost, duplicated or orphaned. `atoll bench crashes` tries all points."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.bench.crashes.experiment import QUIET
from atoll.bench.crashes.workflow import JOIN, NAMES

SEED = 17
SAMPLE = 5
SAMPLE_OF_JOIN = 3


def crashes(timeout_s, *words):
    atoll = Path(sys.executable).with_name("atoll")
    command = [atoll, "bench", "crashes", "--seed", str(SEED), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert trials, done.stderr
    assert [trial for trial in trials if trial["violations"]] == [], done.stderr
    assert done.returncode == 0, done.stderr
    return trials


def test_a_sample_of_points():
    chosen = [word for name in ("boot", "delete-on-host", "upload") for word in ("--workflow", name)]
    trials = crashes(800, *chosen, "--sample", str(SAMPLE))
    assert len(trials) == 3 * QUIET + SAMPLE
    assert sum(trial["reached"] for trial in trials) >= SAMPLE // 2, "most trials must reach their crash point"


@pytest.mark.long
def test_a_sample_of_points_of_a_join():
    trials = crashes(800, "--workflow", JOIN, "--sample", str(SAMPLE_OF_JOIN))
    assert len(trials) == QUIET + SAMPLE_OF_JOIN
    assert any(trial["reached"] for trial in trials), "a process died"


@pytest.mark.long
@pytest.mark.timeout(10_800)
@pytest.mark.parametrize("workflow", NAMES)
def test_all_points(workflow):
    trials = crashes(10_500, "--workflow", workflow, "--again", "1")
    assert sum(bool(trial["reached"]) for trial in trials) > len(trials) / 2
