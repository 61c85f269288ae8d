"""Processes die at crash points: nothing acknowledged is lost, there twice, or left over. `atoll bench crashes` tries all points."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.bench.crashes.workflow import WORKFLOWS

SEED = 17
SAMPLE = 8


def crashes(timeout_s, *words):
    atoll = Path(sys.executable).with_name("atoll")
    command = [atoll, "bench", "crashes", "--seed", str(SEED), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert trials, done.stderr
    assert [trial for trial in trials if trial["violations"]] == [], done.stderr
    assert done.returncode == 0, done.stderr
    return trials


def test_a_sample_of_points(request):
    chosen = [word for name in ("boot", "delete", "delete-at-once", "identity") for word in ("--workflow", name)]
    trials = crashes(600, *chosen, "--sample", str(SAMPLE))
    assert len(trials) == 4 + SAMPLE
    assert sum(trial["reached"] for trial in trials) >= SAMPLE // 2, "most of the processes died"


@pytest.mark.long
@pytest.mark.timeout(10_800)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_all_points(workflow):
    trials = crashes(10_500, "--workflow", workflow, "--again", "1")
    assert sum(bool(trial["reached"]) for trial in trials) > len(trials) / 2
