import os
import signal
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest

from atoll.bench.bus import loss
from atoll.bench.bus.processes import WorkerTemplate, share
from atoll.bench.bus.speed import numbers_of
from atoll.bench.bus.transport import rabbit, zenoh
from atoll.bench.bus.work import CallTally
from atoll.bench.bus.worker import obey
from atoll.errors import AtollError


@pytest.mark.parametrize(
    ("total", "parts", "shares"), [(1, 4, [1]), (10, 4, [3, 3, 2, 2]), (1000, 4, [250] * 4), (5, 4, [2, 1, 1, 1]), (0, 4, [])]
)
def test_share(total, parts, shares):
    assert share(total, parts) == shares


# numbers


def test_numbers_of_calls():
    tally = CallTally(sent=210, counted=200)
    tally.seconds.extend(milliseconds / 1000 for milliseconds in range(1, 102))
    assert numbers_of(tally, 2.0, 0.1) == {"calls_per_s": 100.0, "p50_ms": 51.0, "p99_ms": 100.0, "cpu_s_per_1000_calls": 0.5}


def test_too_few_calls_are_not_a_result():
    with pytest.raises(AtollError, match="only 0 calls succeeded in 3 s"):
        numbers_of(CallTally(), 3.0, 0.1)


# restarts


def restarts(options: loss.LossOptions) -> list[tuple[float, int, signal.Signals]]:
    choose = loss.plan(options, 100.0)
    looks = [(100 + step / 10, choose(100 + step / 10)) for step in range(1000)]
    return [(moment, *chosen) for moment, chosen in looks if chosen]


def test_restarts_are_random_and_reproducible():
    found = restarts(loss.LossOptions(interval_s=2.0, seed=7))
    assert found == restarts(loss.LossOptions(interval_s=2.0, seed=7))
    assert found != restarts(loss.LossOptions(interval_s=2.0, seed=8))
    assert 100 / 3 <= len(found) <= 100
    assert {index for _moment, index, _number in found} == set(range(loss.SERVERS))
    assert {number for *_, number in found} == {signal.SIGTERM, signal.SIGKILL}


@pytest.mark.parametrize(("kill", "number"), [(0.0, signal.SIGTERM), (1.0, signal.SIGKILL)])
def test_restarts_of_one_kind(kill, number):
    assert {number for *_, number in restarts(loss.LossOptions(kill=kill))} == {number}


# commands


class Role:
    def double(self, number):
        return 2 * number


def test_commands_are_answered_in_their_order():
    here, there = Pipe()
    thread = threading.Thread(target=obey, args=(there, Role()))
    thread.start()
    for command in (("double", {"number": 4}), ("double", {"number": None}), ("triple", {})):
        here.send(command)
    assert here.recv() == (None, 8)
    error, _ = here.recv()
    assert error.startswith("TypeError: ")
    assert here.recv()[0].startswith("AttributeError: ")
    here.close()
    thread.join(30)
    assert not thread.is_alive()


# processes


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    template = WorkerTemplate(tmp_path_factory.mktemp("logs"), os.environ)
    yield template
    template.end()


@pytest.fixture
def worker(template, request):
    worker = template.fork("clients", request.node.name)
    yield worker
    if worker.running:
        worker.end(signal.SIGKILL)


def test_worker_does_as_it_is_told(worker):
    worker.check()
    assert worker.ask("prepare", count=2) is None
    with pytest.raises(AtollError, match=r"AttributeError: .*dance"):
        worker.ask("dance")
    worker.end()


def test_worker_has_a_process_and_a_log_of_its_own(template, worker):
    assert worker.pid not in (template.pid, os.getpid())
    with pytest.raises(AtollError):
        worker.ask("dance")
    assert "AttributeError" in worker.log.read_text()
    assert "AttributeError" not in template.log.read_text()


def test_worker_that_died_is_told(worker):
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(AtollError, match="test_worker_that_died_is_told has ended: its log is empty"):
        worker.ask("prepare", count=1)
    assert worker._ended(30)
    with pytest.raises(AtollError, match="has ended"):
        worker.check()


def test_worker_ends_even_if_the_signal_does_not_wake_its_main_thread(worker):
    """Linux may deliver the signal to any thread, or just before the main thread waits; earlier versions then missed it."""
    worker.ask("prepare", count=1)
    (other,) = {int(path.name) for path in Path(f"/proc/{worker.pid}/task").iterdir()} - {worker.pid}
    os.kill(other, signal.SIGTERM)
    assert worker._ended(30)


def test_worker_that_does_not_answer(worker):
    with pytest.raises(AtollError, match="has not answered within 0 s"):
        worker.answer(0.0)


def test_modules_that_all_are_to_share_exist(template, tmp_path):
    for transport in (rabbit("rabbit://"), zenoh(tmp_path)):
        template.ask("load", modules=transport.modules)
    with pytest.raises(AtollError, match="ModuleNotFoundError: No module named 'nonsense'"):
        template.ask("load", modules=["nonsense"])


def test_workers_die_with_the_process_that_forked_them(tmp_path):
    template = WorkerTemplate(tmp_path, os.environ)
    worker = template.fork("clients", "clients-0")
    template.end()
    worker.end(0)  # no signal; it raises if the process stays
