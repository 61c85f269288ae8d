import time
from types import SimpleNamespace

import pytest
from keystoneauth1 import _fair_semaphore

from atoll.services.patches.shared import pacing


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The time of day, which a test can set, and the seconds that were slept."""
    made = SimpleNamespace(now=time.time(), slept=[])
    fake = SimpleNamespace(time=lambda: made.now, monotonic=time.monotonic, sleep=made.slept.append)
    monkeypatch.setattr(_fair_semaphore, "time", fake)
    monkeypatch.setattr(pacing, "time", fake)
    return made


def used_after_the_clock_was_set_back(clock) -> list[float]:
    made = _fair_semaphore.FairSemaphore(None, 0.0)
    clock.now -= 3600
    with made:
        pass
    return clock.slept


def test_upstream_waits_for_the_clock(clock):
    """If this fails, upstream has changed, and services/patches/shared/pacing.py can go."""
    assert used_after_the_clock_was_set_back(clock) == [pytest.approx(3600)]


def test_no_request_waits_for_a_clock_that_was_set_back(clock):
    pacing.install()
    assert used_after_the_clock_was_set_back(clock) == []


def test_a_pace_is_still_kept(clock):
    pacing.install()
    made = _fair_semaphore.FairSemaphore(None, 10.0)
    with made:
        pass
    assert clock.slept == [pytest.approx(10, abs=1)]
