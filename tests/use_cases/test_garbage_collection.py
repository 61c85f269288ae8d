"""Garbage collection as a user runs it, without a cloud: its latency class, its page, and its use."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from use_cases.waste.field import fixed
from use_cases.waste.report import PLAN_S, Record

DAYS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the scenario once; return its output and its page."""
    file = tmp_path_factory.mktemp("waste") / "page.html"
    command = [sys.executable, "-m", "use_cases.waste", "--without-cloud", "--days", str(DAYS), "--page", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, file.read_text(encoding="utf-8")


@pytest.mark.timeout(1800)
def test_routes_within_a_minute_of_the_last_reading(run):
    plans = [float(each) for each in re.findall(r"planned in ([\d.]+) s", run[0])]
    assert len(plans) == DAYS
    assert max(plans) < PLAN_S == 60


def test_page_loads_nothing(run):
    page = run[1]
    assert re.findall(r"(?:src|href)=\"([^\"]*)", page) == ["data:,"]
    assert "http" not in page
    assert "<script" not in page
    assert "<polyline" in page
    assert "all bins every 2 days" in page


def test_fixed_schedule():
    metres, visits, _ = fixed(7, 4)
    assert visits == 2 * 90
    assert metres > 0
    assert fixed(7, 4) == fixed(7, 4)


def test_late_plans_are_named():
    day = {"day": 3, "seconds": 61.0, "routes": [["a", "b"], ["c"]], "metres": 1_500}
    record = Record(1, "", "", days=[day, {**day, "seconds": 1.0}])
    assert record.late() == ["the routes of day 3 took 61.0 s: at most 60 s"]
    assert (record.visits(), record.metres()) == (6, 3_000)
