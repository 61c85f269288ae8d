import os
import subprocess
import sys
import time

import pytest

from atoll.bench.processes import family, memory_mb, processor_percent, processor_seconds

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


def test_processor_time_of_the_busy_the_idle_and_the_dead(child):
    pids = [os.getpid(), child.pid, NOBODY]
    before, begun = processor_seconds(pids), time.process_time()
    while time.process_time() - begun < 0.2:
        pass
    after = processor_seconds(pids)
    assert before.keys() == after.keys() == {os.getpid(), child.pid}
    assert after[os.getpid()] - before[os.getpid()] >= 0.18  # the kernel counts in ticks of 10 ms
    assert after[child.pid] - before[child.pid] < 0.1


def test_processor_time_includes_processes_started_meanwhile(monkeypatch):
    looks = iter([{1: 5.0}, {1: 6.0, 2: 0.5}])
    monkeypatch.setattr("atoll.bench.processes.processor_seconds", lambda _pids: next(looks))
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert processor_percent(lambda: [1, 2], 10) == 15.0
