"""The kinds of faults of a cell: how each is injected and undone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from atoll.bench.cell_faults.disks import Disk, SiteDisks
from atoll.bench.cell_faults.links import FaultyLinks
from atoll.bench.cell_faults.step import FaultStep
from atoll.bench.failure import failed
from atoll.bench.faults.fault import FaultyCloud
from atoll.bench.site_broker import SiteBroker
from atoll.bench.waiting import wait_until
from atoll.runtime.client import SupervisorClient, connect
from atoll.runtime.events import Event, ProcessStatus
from atoll.site import single_sites, wan

READY_S = 120.0
"""Seconds to wait until a killed process is ready again."""


@dataclass
class Stage:
    """The running cloud of a cell.

    Attributes:
        cloud: the cloud.
        links: the links of the cloud.
        disks: the disks of the sites whose disk has a fault; `None` if no site has one.
        broker: the RabbitMQ at one of the sites; `None` if the cloud has none.
        killed: the id of the process that each fault killed, by the number of the fault.
        dark: the sites whose links a power cut has cut. A file in the site's directory marks this too, but may be lost with the disk.
        changing: held while a site stops or starts, because only one command may change the cloud at a time.
    """

    cloud: FaultyCloud
    links: FaultyLinks
    disks: SiteDisks | None = None
    broker: SiteBroker | None = None
    killed: dict[int, int] = field(default_factory=dict)
    dark: set[str] = field(default_factory=set)
    changing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def control(self) -> SupervisorClient:
        """The supervisor of the cloud.

        Raises:
            AtollError: `bench.failed`: the supervisor does not run.
        """
        control = connect(self.cloud.state.root)
        if control is None:
            raise failed("the supervisor of the cloud does not run")
        return control

    def process(self, name: str) -> ProcessStatus:
        """Return the state of a process.

        Raises:
            AtollError: `bench.failed`: the cloud has no such process.
        """
        found = next((status for status in self.control.status() if status.name == name), None)
        if found is None:
            raise failed(f"the cloud has no process {name}")
        return found


def _unseen(_event: Event) -> None:
    """Ignore the events of processes that stop."""


Action = Callable[[Stage, FaultStep], None]


@dataclass(frozen=True)
class Injection:
    """The functions that inject and undo one kind of fault.

    Attributes:
        inject: injects the fault; it is in effect when the call returns.
        undo: undoes the fault, which has no effect any more when the call returns.
        only_cloud: True if the fault changes only processes of the cloud, so that it ends with the cloud if the cell fails or is
            interrupted.
    """

    inject: Action
    undo: Action
    only_cloud: bool = False


def _cut(stage: Stage, step: FaultStep) -> None:
    stage.links.cut(step.target)


def _heal(stage: Stage, step: FaultStep) -> None:
    stage.links.heal(step.target)


def _change(stage: Stage, step: FaultStep) -> None:
    stage.links.change(step.target, step.changes)


def _restore(stage: Stage, step: FaultStep) -> None:
    stage.links.restore(step.target, step.changes)


def _kill(stage: Stage, step: FaultStep) -> None:
    if not step.process:
        # A command of `atoll` would take a second to start, but all processes must die at the given time.
        with stage.changing:
            _end_immediately(stage, step.target)
        return
    pid = stage.process(step.target).pid
    if pid is None:
        raise failed(f"{step.target} was not running when it was to be killed")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    stage.killed[step.number] = pid


def _end_immediately(stage: Stage, site: str) -> None:
    """Cut the links of a site, and kill its processes and its broker."""
    single_sites.kill(stage.cloud.state, [site], _unseen)
    if stage.broker is not None and stage.broker.site == site:
        stage.broker.kill()


def _start_again(stage: Stage, site: str) -> None:
    """Start the broker of a site, then the site, after `_end_immediately`."""
    if stage.broker is not None and stage.broker.site == site:
        stage.broker.start()
    stage.cloud.atoll("site", "start", site)


def _disk(stage: Stage, site: str) -> Disk:
    if stage.disks is None:
        raise failed(f"{site} has no disk of its own")
    return stage.disks[site]


def _mark(stage: Stage, site: str) -> Path:
    """Return the path of the file whose existence makes the next start of a site heal its links."""
    return stage.cloud.state.site(site) / wan.DARK


def _cut_power(stage: Stage, step: FaultStep) -> None:
    disk = _disk(stage, step.target)
    with stage.changing:
        # Cut the links first, so that the site acknowledges nothing to other sites that the disk might lose.
        wan.power_off(stage.cloud.state, [step.target])
        if _mark(stage, step.target).exists():
            stage.dark.add(step.target)
        disk.cut()
        _end_immediately(stage, step.target)


def _restore_power(stage: Stage, step: FaultStep) -> None:
    with stage.changing:
        _disk(stage, step.target).restore()
        if step.target in stage.dark:
            stage.dark.remove(step.target)
            _mark(stage, step.target).touch()
        _start_again(stage, step.target)


def _fill_disk(stage: Stage, step: FaultStep) -> None:
    _disk(stage, step.target).fill()


def _free_disk(stage: Stage, step: FaultStep) -> None:
    _disk(stage, step.target).free()
    with stage.changing:  # start processes that could not start while the disk was full
        stage.cloud.atoll("site", "start", step.target)


def _revive(stage: Stage, step: FaultStep) -> None:
    if not step.process:
        with stage.changing:
            _start_again(stage, step.target)
        return

    def again(pid: int) -> bool:
        status = stage.process(step.target)
        return status.state == "ready" and status.pid not in (None, pid)

    wait_until(partial(again, stage.killed.pop(step.number)), f"{step.target} ready again", READY_S)


def _restart(stage: Stage, step: FaultStep) -> None:
    if step.process:
        stage.control.restart(step.target)
    else:
        with stage.changing:
            single_sites.stop(stage.cloud.state, [step.target], _unseen)


def _start(stage: Stage, step: FaultStep) -> None:
    if not step.process:
        with stage.changing:
            stage.cloud.atoll("site", "start", step.target)


def _set_clock(stage: Stage, step: FaultStep) -> None:
    if stage.cloud.clocks is None:
        raise failed("the clocks of this cloud can't be set: its processes run without the library for wrong clocks")
    stage.cloud.clocks.set(step.target, step.ahead_s)


def _correct_clock(stage: Stage, step: FaultStep) -> None:
    if stage.cloud.clocks is not None:
        stage.cloud.clocks.set(step.target, 0)


KINDS: Mapping[str, Injection] = {
    "cut": Injection(_cut, _heal),
    "degrade": Injection(_change, _restore),
    "loss": Injection(_change, _restore),
    "kill": Injection(_kill, _revive, only_cloud=True),
    "restart": Injection(_restart, _start, only_cloud=True),
    "clock": Injection(_set_clock, _correct_clock),
    "power-cut": Injection(_cut_power, _restore_power, only_cloud=True),
    "full-disk": Injection(_fill_disk, _free_disk, only_cloud=True),
}
"""The functions of each kind of fault, by the name of the kind."""

DISK_KINDS = frozenset({"power-cut", "full-disk"})
"""The kinds of faults that affect the disk of a site, for which the site's directory is a file system of its own."""
