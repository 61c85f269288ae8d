"""The supervisor: carries out plans with the state machine (`lifecycle`), the processes (`launcher`) and the sockets (`listeners`).

`daemon` runs it as a program, `server` answers its clients.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from atoll.errors import AtollError
from atoll.runtime.events import Event, ProcessState, ProcessStatus
from atoll.runtime.fork_server import Request
from atoll.runtime.launcher import Launcher
from atoll.runtime.lifecycle import (
    FORK_SERVER,
    JOB,
    SERVICE,
    Action,
    Forget,
    Kill,
    Launch,
    Lifecycle,
    Report,
    Signal,
    Unit,
)
from atoll.runtime.listeners import Listeners
from atoll.runtime.spec import ROOT, ForkServer, Plan, Process, invalid, needs_of

LOG = logging.getLogger("atoll.supervisor")

_FORK_SERVER_STOP_S = 2.0  # a fork server has nothing to save, so it need not get much time to stop
_IMPORT_S = 300.0  # greatest number of seconds for the imports of a fork server, which take long on a busy machine


class Supervisor:
    """Runs the processes of the plans that clients apply.

    Args:
        directory: the state directory.
        lock: descriptor of the lock file, which every process inherits.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.started = time.time()
        self._loop = asyncio.get_running_loop()
        self._life = Lifecycle()
        self._launcher = Launcher(self._on_starting, self._on_ready, self._on_exited, lock)
        self._listeners = Listeners()
        self._known: dict[str, ForkServer | Process] = {}
        self._watchers: list[Callable[[Event], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    # Commands

    def watch(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call a function with every event from now on; return a function that ends these calls."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def start(self, plan: Plan) -> set[str]:
        """Begin to apply a plan, and return without waiting for its processes.

        Returns:
            The names of its processes, each of which will become ready, done, failed or (if a client stops it) stopped.

        Raises:
            AtollError: `runtime.invalid`: the plan is not valid; `port.in_use`, `port.unusable`: a process can't listen at an address.
                Nothing was changed.
        """
        known = plan.over(self._known)
        # Only requested and living processes get sockets, because a failed service has released its port.
        names = {process.name for process in plan.processes}
        self._listeners.bind(self._holders(known, names))
        self._known = known
        changed = [known[ROOT], *plan.fork_servers, *plan.processes]
        self._do(self._life.apply([_unit(item, known) for item in changed], time.monotonic()))
        return names

    def stop(self, names: Iterable[str] | None) -> set[str]:
        """Stop processes; `None` means all processes except the fork servers, which keep running.

        Returns:
            The names of the processes that will be stopped; unknown names are left out.
        """
        ours = {name for name, record in self._life.records.items() if record.unit.kind != FORK_SERVER}
        going = ours if names is None else ours & set(names)
        self._do(self._life.stop(going, time.monotonic()))
        return going

    def kill(self, names: Iterable[str]) -> set[str]:
        """Kill processes immediately, in no order; they stay stopped until a client starts them.

        Returns:
            The names of the processes that will be stopped; unknown names and names of fork servers are left out.
        """
        going = {name for name in names if (record := self._life.records.get(name)) and record.unit.kind != FORK_SERVER}
        self._do(self._life.kill(going, time.monotonic()))
        return going

    def restart(self, name: str) -> set[str]:
        """Stop a process and start it again; the children of a fork server go on.

        Raises:
            AtollError: `process.unknown`: there is no such process; and as for `start`.
        """
        if name not in self._life.records:
            raise AtollError("process.unknown", f"the supervisor has no process {name}")
        self._listeners.bind(self._holders(self._known, {name}))
        self._do(self._life.restart(name, time.monotonic()))
        return {name}

    def status(self) -> list[ProcessStatus]:
        """Return the state of every process, without its memory."""
        now = time.time()
        own = ProcessStatus(
            "supervisor", "supervisor", ProcessState.READY, os.getpid(), self.started, 0, None, now - self.started, None,
            str(self.directory / "supervisor.log"),
        )  # fmt: skip
        return [own, *(self._status(name, now) for name in list(self._life.records))]

    async def end(self) -> None:
        """Stop all processes and fork servers, and return when the last one has ended."""
        self._do(self._life.stop(list(self._life.records), time.monotonic()))
        while self._life.records:
            self._empty.clear()
            await self._empty.wait()

    # Reports

    def _on_starting(self, name: str) -> None:
        self._do(self._life.starting(name, time.monotonic()))

    def _on_ready(self, name: str) -> None:
        self._do(self._life.ready(name, time.monotonic()))

    def _on_exited(self, name: str, code: int | None, detail: str) -> None:
        self._do(self._life.exited(name, code, detail, time.monotonic()))

    def _on_timer(self) -> None:
        self._timer = None
        self._do(self._life.tick(time.monotonic()))

    # Actions

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Launch(name):
                    self._launch(self._known[name])
                case Signal(name, signum):
                    self._launcher.signal(name, signum)
                case Kill(name):
                    self._launcher.kill(name)
                case Report(event):
                    self._tell(event)
                case Forget(name):
                    self._known.pop(name, None)
        self._listeners.keep(self._holders(self._known, set()))
        if not self._life.records:
            self._empty.set()
        self._set_timer()

    def _tell(self, event: Event) -> None:
        level = logging.WARNING if event.state in (ProcessState.FAILED, ProcessState.RESTARTING) else logging.INFO
        detail = f": {event.detail}" if event.detail else ""
        LOG.log(level, "%s %s after %.3f s%s", event.process, event.state, event.seconds, detail)
        for watcher in list(self._watchers):
            watcher(event)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._life.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)

    def _launch(self, item: ForkServer | Process) -> None:
        log = self._log(item)
        if item.name == ROOT:
            self._launcher.launch_root(log, "atoll: root (fork server)")
            return
        sockets = self._listeners.descriptors(item) if isinstance(item, Process) else []
        self._launcher.launch(_request(item), needs_of(item)[0], log, sockets)

    # State

    def _holders(self, known: dict[str, ForkServer | Process], asked: set[str]) -> list[Process]:
        """Return the processes whose sockets must be open: the processes that run or will run."""
        closed = (ProcessState.FAILED, ProcessState.STOPPING, ProcessState.DONE)
        records = self._life.records
        return [
            item
            for item in known.values()
            if isinstance(item, Process)
            and (
                item.name in asked
                or ((record := records.get(item.name)) is not None and (record.state not in closed or record.successor is not None))
            )
        ]

    def _log(self, item: ForkServer | Process) -> str:
        return item.log if isinstance(item, Process) else str(self.directory / "log" / f"{item.name}.log")

    def _status(self, name: str, now: float) -> ProcessStatus:
        record = self._life.records[name]
        instance = self._launcher.get(name)
        pid = instance.pid if instance else None
        started = instance.started if instance and pid else None
        return ProcessStatus(
            name=name,
            kind=record.unit.kind,
            state=record.state,
            pid=pid,
            started=started,
            restarts=record.restarts,
            memory_bytes=None,
            uptime_s=None if started is None else now - started,
            exit=record.exit,
            log=self._log(self._known[name]),
        )


def _request(item: ForkServer | Process) -> Request:
    if isinstance(item, Process):
        title, arguments = f"atoll: {item.name}", dict(item.arguments)
        network = None if item.network is None else asdict(item.network)
        return Request(os.getpid(), item.name, title, _kind(item), item.entry, arguments, item.directory, network)
    title = f"atoll: {item.name} (fork server)"
    return Request(os.getpid(), item.name, title, FORK_SERVER, item.preload, {}, "/")


def _kind(process: Process) -> str:
    return JOB if process.job else SERVICE


def _unit(item: ForkServer | Process, known: dict[str, ForkServer | Process]) -> Unit:
    if isinstance(item, Process):
        return Unit(item.name, _kind(item), needs_of(item), item.signature(), item.ready_timeout_s, item.stop_timeout_s)
    return Unit(item.name, FORK_SERVER, needs_of(item), _ancestry(item, known), _IMPORT_S, _FORK_SERVER_STOP_S)


def _ancestry(item: ForkServer, known: dict[str, ForkServer | Process]) -> str:
    """Return the preload functions of a fork server and its ancestors: if one changes, the fork server must be restarted."""
    preloads = [f"{item.name}={item.preload}"]
    while item.name != ROOT:
        parent = known[item.origin]
        if not isinstance(parent, ForkServer):
            raise invalid(f"{parent.name} is not a fork server")
        item = parent
        preloads.append(f"{item.name}={item.preload}")
    return " < ".join(preloads)
