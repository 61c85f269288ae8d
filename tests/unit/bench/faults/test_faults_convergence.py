"""When the violations after a run are final."""

from types import SimpleNamespace

import pytest

from atoll.bench.faults import experiment
from atoll.bench.faults.violation import Violation

LEFT = [Violation("lost", "user coral is not at paris")]


class Machine:
    """A machine on which each reading of the sites takes a while."""

    def __init__(self, monkeypatch, look_s: float, violations: list[list[Violation]]) -> None:
        self.now_s = 0.0
        self.looks = 0
        self._look_s = look_s
        self._violations = violations
        monkeypatch.setattr(experiment, "time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.pass_s))
        monkeypatch.setattr(experiment, "look", lambda _cloud, _details: [])
        monkeypatch.setattr(experiment, "replicas", lambda _views: [])
        monkeypatch.setattr(experiment, "health", lambda _cloud: [])
        monkeypatch.setattr(experiment, "check", self.check)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def check(self, *_arguments: object) -> list[Violation]:
        self.pass_s(self._look_s)
        self.looks += 1
        return self._violations[min(self.looks, len(self._violations)) - 1]

    def convergence(self) -> experiment.ConvergenceCheck:
        made = experiment.ConvergenceCheck(None, SimpleNamespace(seed=0), [], [], lambda _text: None)
        made.watch()
        return made


def test_violations_that_go_away_are_none(monkeypatch):
    machine = Machine(monkeypatch, 1.0, [LEFT, LEFT, []])
    convergence = machine.convergence()
    assert (convergence.violations, machine.looks) == ([], 3)
    assert convergence.settle_s == pytest.approx(machine.now_s)


def test_violations_are_final_after_three_minutes(monkeypatch):
    machine = Machine(monkeypatch, 1.0, [LEFT])
    assert machine.convergence().violations == LEFT
    assert machine.now_s == pytest.approx(experiment.CONVERGED_S, abs=5)


def test_busy_machine_has_several_readings(monkeypatch):
    machine = Machine(monkeypatch, 200.0, [LEFT, LEFT, []])
    assert machine.convergence().violations == []
    machine = Machine(monkeypatch, 200.0, [LEFT])
    assert machine.convergence().violations == LEFT
    assert machine.looks == experiment.LEAST_READS
