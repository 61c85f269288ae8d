"""The work that services do at intervals is recorded by chance, with all that it causes."""

import threading

import pytest
from opentelemetry.trace import SpanKind
from oslo_config import cfg
from oslo_service import loopingcall, periodic_task

from atoll.trace import propagation, sampling, spans


def inner():
    if current := sampling.sampled():
        with spans.span(current, "inner", SpanKind.CLIENT):
            pass


class Manager(periodic_task.PeriodicTasks):
    def __init__(self):
        super().__init__(cfg.CONF)
        self.ran = []

    @periodic_task.periodic_task(spacing=1, run_immediately=True)
    def _report(self, context):
        self.ran.append(("report", context))
        inner()

    @periodic_task.periodic_task(spacing=1, run_immediately=True)
    def _fail(self, context):
        self.ran.append(("fail", context))
        raise LookupError("gone")


@pytest.mark.parametrize("sample", [0.0, 1.0], ids=["none", "all"])
def test_periodic_tasks_are_recorded_by_chance(record, sample, monkeypatch):
    recording, manager = record(sample), Manager()
    monkeypatch.setattr(periodic_task, "now", iter(range(0, 1000, 10)).__next__)
    for _ in range(3):
        manager.run_periodic_tasks("context")
    assert sorted(manager.ran) == [("fail", "context")] * 3 + [("report", "context")] * 3, "as upstream runs them"
    spans = recording.spans()
    assert len(spans) == (9 if sample else 0)
    roots = [each for each in spans if not each.parent]
    assert len({each.trace for each in spans}) == len(roots) == (6 if sample else 0)
    assert {(each.name, each.error) for each in roots} == (
        {("periodic Manager._report", None), ("periodic Manager._fail", "LookupError: gone")} if sample else set()
    )


def loop(ends):
    def report():
        inner()
        if not ends:
            raise LookupError("gone")
        raise loopingcall.LoopingCallDone("result")

    return loopingcall.FixedIntervalLoopingCall(report).start(interval=1)


def test_a_loop_is_recorded_and_its_end_is_not_a_failure(record):
    recording = record(1.0)
    assert loop(ends=True).wait() == "result"
    with pytest.raises(LookupError):
        loop(ends=False).wait()
    roots = sorted((each for each in recording.spans() if not each.parent), key=lambda each: each.start)
    assert [(each.name, each.error) for each in roots] == [
        ("periodic loop.<locals>.report", None),
        ("periodic loop.<locals>.report", "LookupError: gone"),
    ]
    assert len(recording.spans()) == 4


def test_a_loop_of_a_request_stays_part_of_it(record):
    """Nova waits for a guest by a loop."""
    recording = record(1.0)
    with propagation.work("request"):
        assert loop(ends=True).wait() == "result"
    request, below = recording.spans()
    assert (request.name, below.name, below.parent) == ("request", "inner", request.span)


def test_without_a_recorder_work_is_just_done():
    done = threading.Event()
    with propagation.work("x"):
        done.set()
    assert done.is_set()
    assert propagation.outgoing() == {}
