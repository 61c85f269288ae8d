import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from atoll.bench.flood import attacker, experiment, honest, rubbish
from atoll.errors import AtollError


def test_each_rubbish_is_another_one():
    for kind in rubbish.KINDS[1:3]:
        assert kind() != kind()
    assert all(isinstance(kind(), bytes) for kind in rubbish.KINDS)
    assert b"" in rubbish.SLOW


@pytest.fixture
def listener():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(500)
        yield made


PATIENCE_S = 60.0


class Clock:
    """A clock that goes on only while the test runs it, for one other thread."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._may_go_on = threading.Semaphore(0)
        self._sleeps = threading.Semaphore(0)

    def monotonic(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._sleeps.release()
        self._may_go_on.acquire()
        self._now_s += seconds

    def run(self, seconds: float) -> None:
        """Let the other thread run until so many seconds have passed and it sleeps again."""
        end_s = self._now_s + seconds
        assert self._sleeps.acquire(timeout=PATIENCE_S)
        while self._now_s < end_s:
            self._may_go_on.release()
            assert self._sleeps.acquire(timeout=PATIENCE_S)
        self._sleeps.release()


def test_the_attack_keeps_to_its_numbers(listener, monkeypatch):
    """The attack sends the set number of requests and holds the set number of connections, from several addresses, only while it is on."""
    accepted, sources = [], set()

    def accept() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            accepted.append(connection)
            sources.add(address[0])

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    clock = Clock()
    monkeypatch.setattr(attacker, "time", clock)
    target = attacker.AttackedPort(0, listener.getsockname())
    attack = attacker.Attack(target, rate=200, slow=20, sources=5)
    threading.Thread(target=attack.run, daemon=True).start()
    clock.run(0.3)
    assert not accepted
    target.on = True
    clock.run(1.0)
    target.on = False
    clock.run(0.2)
    counts = dict(target.counts)
    clock.run(0.3)
    assert target.counts == counts
    assert 180 < counts["requests"] <= 205
    assert 0 < counts["slow"] <= 20
    assert not counts.get("late")
    deadline = time.monotonic() + PATIENCE_S
    while len(sources) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 1 < len(sources) <= 5
    listener.shutdown(socket.SHUT_RDWR)  # ends the thread, which else would accept connections that nobody closes
    accepting.join(PATIENCE_S)
    for each in accepted:
        each.close()


def test_the_attackers_process_answers_each_line():
    command = [sys.executable, "-m", "atoll.bench.flood.attacker"]
    arguments = json.dumps({"targets": {}, "rate": 1, "slow": 0, "sources": 1})
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, arguments], stdin=pipe, stdout=pipe, text=True)
    attack = experiment.Attacker(process)
    assert attack.attack("site-1") == {}
    assert attack.attack() == {}
    process.kill()
    process.wait()
    with pytest.raises(AtollError, match="has ended"):
        attack.attack()
    attack.end()


def numbers(calm: float, one: float, each: float) -> dict[str, dict[str, list[float]]]:
    return {
        "calm": {"site-1": [calm] * 10, "site-2": [calm] * 10},
        "one": {"site-1": [one] * 10, "site-2": [calm] * 10},
        "each": {"site-1": [each] * 10, "site-2": [each * 2] * 10},
    }


def test_a_report_compares_with_calm():
    done = {"requests": 100, "refused": 5, "slow": 7, "late": 0}
    report = experiment._report(experiment.FloodOptions(), "site-1", numbers(2, 3, 4), {"calm": 9, "one": 1, "each": 2}, done)
    assert (report["attacked_p99_ratio"], report["others_p99_ratio"], report["each_p99_ratio"]) == (1.5, 1.0, 4.0)
    assert (report["honest_failures"], report["calm_p50_ms"], report["rubbish_requests"]) == (3, 2, 100)
    from atoll.cli.bench_flood import KEYS

    assert set(KEYS) <= set(report)


def test_an_attacker_that_is_too_slow_has_measured_nothing():
    with pytest.raises(AtollError, match="too slow"):
        experiment._report(experiment.FloodOptions(), "site-1", numbers(1, 1, 1), {}, {"requests": 100, "late": 6})


def test_quantiles():
    assert honest.quantiles([float(each) for each in range(1, 102)]) == {"p50_ms": 51.0, "p99_ms": 100.0, "requests": 101}
    assert honest.quantiles([1.0])["p99_ms"] is None
