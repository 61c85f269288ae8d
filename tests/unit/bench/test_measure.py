import os
import subprocess
import sys

import pytest

from atoll.bench.measure import family, median, memory_mb, processor_percent, processor_seconds, wait_until
from atoll.errors import AtollError

NOBODY = 2**22 + 1
"""A pid above the highest one that Linux assigns."""


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()  # from here on it is idle
    yield process
    process.communicate(b"\n")


def test_family_has_children_and_leaves_out_the_dead(child):
    assert set(family([os.getpid(), NOBODY])) >= {os.getpid(), child.pid}
    assert NOBODY not in family([os.getpid(), NOBODY])


def test_memory_of_a_process(child):
    alone = memory_mb([os.getpid()])
    assert alone > 1
    assert memory_mb([os.getpid(), NOBODY]) == pytest.approx(alone, rel=0.2)


def test_processor_time_of_the_idle_and_of_the_dead(child):
    assert processor_seconds([NOBODY]) == {}
    assert processor_percent(lambda: [child.pid], 0.2) < 50


def test_processor_time_includes_processes_started_meanwhile(monkeypatch):
    looks = iter([{1: 5.0}, {1: 6.0, 2: 0.5}])
    monkeypatch.setattr("atoll.bench.measure.processor_seconds", lambda _pids: next(looks))
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert processor_percent(lambda: [1, 2], 10) == 15.0


def test_wait_until():
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "three looks", 5, 0.001)


def test_wait_until_gives_up():
    with pytest.raises(AtollError, match="the moon: not true after 0 s") as caught:
        wait_until(lambda: False, "the moon", 0, 0.001)
    assert caught.value.kind.code == "bench.failed"


def test_median():
    assert (median([3, 1, 2.00049]), median([])) == (2.0, None)
