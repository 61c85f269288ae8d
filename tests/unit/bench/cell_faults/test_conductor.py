"""The conductor: faults happen at their time or point, are undone in any case, and are recorded with the times at which they were."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.bench.cell_faults import conductor as conducting
from atoll.bench.cell_faults.conductor import Conductor
from atoll.bench.cell_faults.kinds import Injection
from atoll.bench.cell_faults.points import announce
from atoll.bench.cell_faults.step import FaultStep, SpanPoint
from atoll.errors import AtollError

STAGE: Any = SimpleNamespace()
SHORT_S = 0.05


class Ground:
    """Kinds of faults that only remember what was done."""

    def __init__(self) -> None:
        self.done, self.broken = [], ""
        self.injected, self.hold = threading.Event(), threading.Event()
        self.hold.set()

    def inject(self, _stage, step):
        self.hold.wait(10)
        if self.broken == "inject":
            raise AtollError("wan.failed", "the WAN does not answer")
        self.done.append(("inject", step.target))
        self.injected.set()

    def undo(self, _stage, step):
        if self.broken == "undo":
            raise RuntimeError("no supervisor")
        self.done.append(("undo", step.target))


@pytest.fixture
def ground(monkeypatch):
    made = Ground()
    kinds = {"cut": Injection(made.inject, made.undo), "kill": Injection(made.inject, made.undo, only_cloud=True)}
    monkeypatch.setattr(conducting, "KINDS", kinds | {"restart": kinds["kill"]})
    return made


def conduct(tmp_path, *steps):
    rows = []
    made = Conductor(STAGE, steps, tmp_path / "points.sock", lambda *fields: rows.append(fields), lambda _text: None)
    return made, rows


def test_a_fault_happens_at_its_time_lasts_and_is_recorded(ground, tmp_path):
    made, rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", "at 50ms", at_s=SHORT_S, lasts_s=SHORT_S))
    with made:
        assert not ground.done, "the measured operations have not begun"
        made.begin()
        assert ground.injected.wait(10)
        deadline = time.monotonic() + 10
        while len(ground.done) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        made.finish()
    assert ground.done == [("inject", "lyon"), ("undo", "lyon")]
    ((number, kind, target, cause, started, effective, undone, ended, error),) = rows
    assert (number, kind, target, cause, error) == (1, "cut", "lyon", "at 50ms", "")
    assert SHORT_S <= started <= effective
    assert effective + SHORT_S <= undone + 1e-3
    assert undone <= ended


def test_a_fault_is_undone_when_the_workload_ends(ground, tmp_path):
    made, rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", at_s=0.0, lasts_s=3600.0))
    with made:
        made.begin()
        assert ground.injected.wait(10)
        made.finish()
        assert ground.done[-1] == ("undo", "lyon")
    assert rows[0][7] < 60


@pytest.mark.parametrize(("kind", "undone"), [("cut", True), ("kill", False)])
def test_links_are_set_right_after_an_error_and_killed_sites_end_with_their_cloud(ground, tmp_path, kind, undone):
    made, rows = conduct(tmp_path, FaultStep(1, kind, "lyon", at_s=0.0))

    def fail():
        with made:
            made.begin()
            assert ground.injected.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (("undo", "lyon") in ground.done) == undone
    assert len(rows) == 1


def test_a_fault_that_did_not_happen_fails_the_cell(ground, tmp_path):
    made, _rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", "at 1h", at_s=3600.0), FaultStep(2, "cut", "nice", when=SpanPoint("never")))
    with made:
        made.begin()
        with pytest.raises(AtollError, match=r"fault 1, cut lyon \(at 1h\), did not happen: the workload ended after"):
            made.finish()
    assert ground.done == []


@pytest.mark.parametrize(("broken", "message"), [("inject", "the WAN does not answer"), ("undo", "RuntimeError: no supervisor")])
def test_a_fault_that_fails_fails_the_cell(ground, tmp_path, broken, message):
    ground.broken = broken
    made, rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", "at 0s", at_s=0.0))
    with made:
        made.begin()
        deadline = time.monotonic() + 10
        while not rows and not ground.injected.is_set() and time.monotonic() < deadline:
            time.sleep(0.005)
        with pytest.raises(AtollError, match=message):
            made.finish()
    assert rows[0][8].endswith(message)


def reached(tmp_path, number=1):
    """Announce a point in a thread, as a process does; return the thread, which ends when the process may go on."""
    thread = threading.Thread(target=announce, args=(str(tmp_path / "points.sock"), [number]), daemon=True)
    thread.start()
    return thread


def test_a_process_waits_at_the_point_until_the_fault_is_in_effect(ground, tmp_path):
    made, rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", "start of x", when=SpanPoint("x", number=2)))
    ground.hold.clear()
    with made:
        early = reached(tmp_path)
        early.join(10)
        assert not early.is_alive(), "no point counts before the measured operations"
        made.begin()
        first = reached(tmp_path)
        first.join(10)
        assert not first.is_alive(), "only the second occurrence is the point"
        second = reached(tmp_path)
        second.join(SHORT_S)
        assert second.is_alive()
        assert not ground.done
        ground.hold.set()
        second.join(10)
        assert not second.is_alive()
        assert ground.done == [("inject", "lyon")]
        third = reached(tmp_path)
        third.join(10)
        assert not third.is_alive(), "the fault happens once"
        made.finish()
    assert [row[:4] for row in rows] == [(1, "cut", "lyon", "start of x")]


def test_a_restart_does_not_wait_for_the_process_at_its_point(ground, tmp_path):
    made, _rows = conduct(tmp_path, FaultStep(1, "restart", "lyon", when=SpanPoint("x")))
    ground.hold.clear()
    with made:
        made.begin()
        waiting = reached(tmp_path)
        waiting.join(10)
        assert not waiting.is_alive()
        ground.hold.set()
        assert ground.injected.wait(10)
        made.finish()


def test_an_announcement_of_something_else_is_ignored(ground, tmp_path):
    made, _rows = conduct(tmp_path, FaultStep(1, "cut", "lyon", at_s=0.0), FaultStep(2, "cut", "nice", when=SpanPoint("x")))
    with made:
        made.begin()
        for number in (1, 7):
            thread = reached(tmp_path, number)
            thread.join(10)
            assert not thread.is_alive()
        assert ground.injected.wait(10)
        with pytest.raises(AtollError, match="fault 2"):
            made.finish()
    assert ("inject", "nice") not in ground.done
