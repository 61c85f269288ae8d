"""The sampler of a cell: it counts each site's processes, and its times are those of the measured operations."""

import os
import subprocess
import sys
import time

import pytest

from atoll.bench.cell_sampler import SHARED, CellSampler, Receivers, by_site, process_table
from atoll.bench.waiting import wait_until
from atoll.errors import AtollError


class Kept:
    """Keeps the readings that a sampler hands over."""

    def __init__(self) -> None:
        self.usage, self.traffic = [], []

    @property
    def receivers(self):
        return Receivers(lambda *fields: self.usage.append(fields), lambda *fields: self.traffic.append(fields))


def counters(packets):
    return {"paris:lyon": {"packets_in": packets, "bytes_in": 100 * packets, "lost": packets // 2, "overflowed": 1, "cut": 0}}


def test_descendants_belong_to_the_site_of_their_nearest_listed_ancestor():
    parent = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20, 30: 10}
    found = by_site({"paris": [10], "lyon": [20, 30], "empty": [], SHARED: [99]}, parent)
    assert found == {"paris": [10, 11, 12], "lyon": [20, 21, 30], "empty": [], SHARED: []}


def test_a_loop_of_parents_ends():
    assert by_site({"paris": [9]}, {1: 2, 2: 1, 9: 0}) == {"paris": [9]}


def test_the_table_has_this_process():
    table = process_table()
    assert table[os.getpid()][0] == os.getppid()
    assert table[os.getpid()][1] == pytest.approx(sum(os.times()[:2]), abs=1)


def test_readings_are_on_the_time_axis_of_the_operations():
    kept, packets = Kept(), iter(range(0, 10_000, 10))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            sampler = CellSampler(lambda: {"paris": [busy.pid], "lyon": []}, lambda: counters(next(packets)), kept.receivers, 0.02)
            with sampler:
                wait_until(lambda: len(sampler._readings) > 2, "three readings before the operations begin", 30, 0.01)
                sampler.begin()
                before = len(sampler._readings)
                wait_until(lambda: len(sampler._readings) > before + 3 and sampler._used["paris"] > 0.1, "further readings", 60, 0.01)
        finally:
            busy.kill()
    times = [row[0] for row in kept.usage if row[1] == "paris"]
    assert times == sorted(times)
    assert times[0] < 0 < times[-1]
    assert any(0 <= at < 0.02 + 5 for at in times), "a reading as soon as the operations begin"
    paris = [row for row in kept.usage if row[1] == "paris"]
    assert paris[0][2] == 0, "processor time counts from the first reading"
    assert paris[-1][2] > 0.1
    assert {row[3] for row in paris} == {1}
    memory = [row[4] for row in paris]
    assert memory[0] > 1
    assert memory[-1] is not None, "the last reading has the memory"
    assert None in memory
    assert all(row[3] == 0 for row in kept.usage if row[1] == "lyon")
    first, *_others, last = kept.traffic
    assert first[1:] == ("paris", "lyon", 0, 0, 0), "counts begin with the first reading"
    assert last[3] == 10 * (len(times) - 1)
    assert last[4] == 100 * last[3]
    assert last[5] == last[3] // 2
    facts = sampler.facts(2.0)
    assert facts["sampled_every_s"] == 0.02
    assert facts["sampler_share"] == pytest.approx(sampler.cpu_s / 2, abs=1e-4)
    assert sampler.cpu_s > 0


def test_time_is_not_counted_twice_if_a_process_is_replaced():
    now = {"pids": {"paris": [1]}}
    sampler = CellSampler(lambda: now["pids"], dict, Kept().receivers)
    sampler._count("paris", {1: 5.0})
    sampler._readings.append(None)
    sampler._count("paris", {1: 6.0})
    sampler._count("paris", {2: 0.5})
    sampler._count("paris", {2: 0.75})
    assert sampler._used["paris"] == pytest.approx(1 + 0.75)


def test_a_supervisor_that_does_not_answer_misses_a_reading_only():
    kept, answers = Kept(), []

    def processes():
        answers.append(1)
        if len(answers) == 2:
            raise AtollError("runtime.unreachable", "gone")
        return {"paris": [os.getpid()]}

    with CellSampler(processes, dict, kept.receivers, 0.01) as sampler:
        wait_until(lambda: len(answers) > 4, "readings", 30, 0.01)
    assert len(kept.usage) == len(answers) - 1
    assert kept.usage[0][0] == 0, "without measured operations, times count from the first reading"
    assert sampler.cpu_s >= 0


def test_without_a_reading_nothing_is_handed_over():
    kept = Kept()

    def processes():
        raise OSError("no supervisor")

    with CellSampler(processes, dict, kept.receivers, 10):
        time.sleep(0)
    assert (kept.usage, kept.traffic) == ([], [])
