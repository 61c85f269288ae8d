"""Kinds of faults: killed processes and clocks, against a supervisor in memory."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.bench.cell_faults import kinds
from atoll.bench.cell_faults.kinds import KINDS, Stage
from atoll.bench.cell_faults.step import FaultStep
from atoll.errors import AtollError


class Supervisor:
    """Has one process, which is ready again with another pid at the second look."""

    def __init__(self) -> None:
        self.looks, self.restarted = 0, []

    def status(self):
        self.looks += 1
        ready = self.looks != 2
        return [
            SimpleNamespace(name="lyon/nova", pid=(7 if self.looks < 3 else 8) if ready else None, state="ready" if ready else "waiting")
        ]

    def restart(self, name):
        self.restarted.append(name)


@pytest.fixture
def told(monkeypatch):
    """Yield the calls of commands, signals and clocks."""
    calls: Any = SimpleNamespace(commands=[], signals=[], clocks=[], supervisor=Supervisor())
    monkeypatch.setattr(kinds, "connect", lambda _root: calls.supervisor)
    monkeypatch.setattr(kinds.os, "kill", lambda pid, number: calls.signals.append((pid, number)))
    for verb in ("kill", "stop"):
        monkeypatch.setattr(kinds.single_sites, verb, lambda _state, names, _seen, verb=verb: calls.commands.append((verb, *names)))
    return calls


def stage(told):
    clocks = SimpleNamespace(set=lambda site, ahead_s: told.clocks.append((site, ahead_s)))
    cloud: Any = SimpleNamespace(
        state=SimpleNamespace(root="state"), clocks=clocks, atoll=lambda _site, verb, name: told.commands.append((verb, name))
    )
    links: Any = SimpleNamespace()
    return Stage(cloud, links)


def happen(told, step):
    ground = stage(told)
    KINDS[step.kind].inject(ground, step)
    KINDS[step.kind].undo(ground, step)


def test_a_killed_process_is_awaited_under_another_pid(told):
    happen(told, FaultStep(1, "kill", "lyon/nova"))
    assert told.signals == [(7, signal.SIGKILL)]
    assert told.supervisor.looks == 3
    assert told.commands == []


def test_a_killed_site_is_started_again(told):
    happen(told, FaultStep(1, "kill", "lyon"))
    assert told.commands == [("kill", "lyon"), ("start", "lyon")]


def test_a_site_restarts_in_good_order_and_a_process_by_its_supervisor(told):
    happen(told, FaultStep(1, "restart", "lyon"))
    happen(told, FaultStep(2, "restart", "lyon/nova"))
    assert told.commands == [("stop", "lyon"), ("start", "lyon")]
    assert told.supervisor.restarted == ["lyon/nova"]


def test_a_clock_is_set_and_corrected(told):
    happen(told, FaultStep(1, "clock", "lyon", ahead_s=-300.0))
    assert told.clocks == [("lyon", -300.0), ("lyon", 0)]


def test_a_process_that_is_not_there_is_an_error(told):
    with pytest.raises(AtollError, match="no process lyon/glance"):
        happen(told, FaultStep(1, "kill", "lyon/glance"))


class MemoryDisk:
    """Tells what befalls it."""

    def __init__(self, calls) -> None:
        self.calls = calls

    def __getattr__(self, name):
        return lambda: self.calls.append((name, "disk"))


def on_disk(told, tmp_path, monkeypatch, kind, *, cut_before=False):
    """Have a fault of a disk happen, and return whether the start would have healed the links."""
    ground = stage(told)
    directory = tmp_path / "lyon"
    directory.mkdir()
    ground.cloud.state = SimpleNamespace(root="state", site=lambda _name: directory)
    ground.disks = {"lyon": MemoryDisk(told.commands)}

    def power_off(_state, names):
        told.commands.append(("dark", *names))
        if not cut_before:
            (directory / kinds.wan.DARK).touch()

    monkeypatch.setattr(kinds.wan, "power_off", power_off)
    step = FaultStep(1, kind, "lyon")
    KINDS[kind].inject(ground, step)
    (directory / kinds.wan.DARK).unlink(missing_ok=True)  # it was not flushed
    KINDS[kind].undo(ground, step)
    return (directory / kinds.wan.DARK).exists()


def test_power_is_cut_after_the_links_and_before_the_processes_end(told, tmp_path, monkeypatch):
    assert on_disk(told, tmp_path, monkeypatch, "power-cut"), "the links are healed although the disk lost their mark"
    assert told.commands == [("dark", "lyon"), ("cut", "disk"), ("kill", "lyon"), ("restore", "disk"), ("start", "lyon")]


def test_links_that_another_fault_has_cut_stay_cut_after_a_power_cut(told, tmp_path, monkeypatch):
    assert not on_disk(told, tmp_path, monkeypatch, "power-cut", cut_before=True)


def test_a_full_disk_is_freed_and_what_ended_is_started(told, tmp_path, monkeypatch):
    on_disk(told, tmp_path, monkeypatch, "full-disk")
    assert told.commands == [("fill", "disk"), ("free", "disk"), ("start", "lyon")]


def test_a_site_without_a_disk_of_its_own_is_an_error(told):
    with pytest.raises(AtollError, match="lyon has no disk of its own"):
        happen(told, FaultStep(1, "full-disk", "lyon"))


@pytest.mark.parametrize(("site", "expected"), [("lyon", ["killed", "started"]), ("nice", [])])
def test_the_broker_of_a_killed_site_dies_with_it_and_is_there_before_it(told, site, expected):
    ground, calls = stage(told), []
    broker: Any = SimpleNamespace(site=site, kill=lambda: calls.append("killed"), start=lambda: calls.append("started"))
    ground.broker = broker
    step = FaultStep(1, "kill", "lyon")
    KINDS["kill"].inject(ground, step)
    KINDS["kill"].undo(ground, step)
    assert calls == expected
