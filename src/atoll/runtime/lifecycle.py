"""The state machine that decides when a process is started, restarted, given up and stopped.

It has no clock, process or socket of its own: every method takes the time, in seconds of a monotonic clock, and returns actions. The
supervisor carries out the actions and reports the results.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.runtime.events import Event, ProcessState

SERVICE, JOB, FORK_SERVER = "service", "job", "fork_server"


@dataclass(frozen=True)
class Policy:
    """The times and numbers of attempts by which the state machine decides.

    Attributes:
        first_delay_s: seconds before the first restart; each further restart waits twice as long. A higher value saves processor time if a
            program is broken, but slows the recovery from a single crash.
        longest_delay_s: the longest delay before a restart, in seconds.
        healthy_after_s: seconds of readiness after which earlier crashes are forgotten.
        attempts: number of deaths while starting after which a process that was never ready has failed.
        abort_grace_s: seconds that a process which hangs while starting has to write its stacks to its log.
    """

    first_delay_s: float = 0.1
    longest_delay_s: float = 30.0
    healthy_after_s: float = 60.0
    attempts: int = 3
    abort_grace_s: float = 2.0

    def delay_s(self, strikes: int) -> float:
        """Return the seconds to wait before a restart after so many crashes in a row (1 or more)."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(strikes - 1, 30))


@dataclass(frozen=True)
class Unit:
    """The definition of a process or a fork server.

    Attributes:
        name: the unit's unique name.
        kind: SERVICE, JOB or FORK_SERVER.
        needs: names of units that must be ready first; unknown names are ignored.
        signature: a text that differs between two definitions if a change from one to the other needs a restart.
        ready_timeout_s: the longest time that a start may take after it began or reported progress, in seconds.
        stop_timeout_s: seconds between SIGTERM and SIGKILL.
    """

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    signature: str = ""
    ready_timeout_s: float = 120.0
    stop_timeout_s: float = 15.0


@dataclass(frozen=True)
class Launch:
    """Action: start the process of this name."""

    name: str


@dataclass(frozen=True)
class Signal:
    """Action: send a signal to the process of this name."""

    name: str
    signum: int


@dataclass(frozen=True)
class Kill:
    """Action: send SIGKILL to the process of this name, now or, if it is still being forked, as soon as it exists."""

    name: str


@dataclass(frozen=True)
class Report:
    """Action: publish an event."""

    event: Event


@dataclass(frozen=True)
class Forget:
    """Action: release everything that the supervisor holds for a unit that has been removed."""

    name: str


Action = Launch | Signal | Kill | Report | Forget


@dataclass
class ProcessRecord:
    """A unit and its state.

    Attributes:
        unit: the unit's definition.
        since: time at which the unit entered its state, in seconds of the monotonic clock.
        state: the unit's state; a fork server that no process has needed yet is STOPPED.
        alive: whether a process may exist: true from `Launch` until the exit is reported.
        deadline: time at which the timer of this state fires, in seconds of the monotonic clock; `None` means no timer.
        asked: whether SIGTERM was sent to the process.
        overdue: whether the process was killed because its start took too long.
        proven: whether the unit has ever been ready since it was defined. If so, it is restarted without a limit of attempts.
        strikes: number of crashes in a row.
        restarts: number of all crashes.
        exit: exit code of the last run; `None` if no run has ended.
        detail: reason of the failure.
        successor: the definition to start once the process has stopped; `None` means that the unit is removed then.
    """

    unit: Unit
    since: float
    state: ProcessState = ProcessState.WAITING
    alive: bool = False
    deadline: float | None = None
    asked: bool = False
    overdue: bool = False
    proven: bool = False
    strikes: int = 0
    restarts: int = 0
    exit: int | None = None
    detail: str = ""
    successor: Unit | None = None


@dataclass
class Lifecycle:
    """The state machine of all units of a supervisor.

    Attributes:
        policy: the times and numbers of attempts.
        records: the units, by name.
    """

    policy: Policy = field(default_factory=Policy)
    records: dict[str, ProcessRecord] = field(default_factory=dict)
    _actions: list[Action] = field(default_factory=list)

    # Requests of clients

    def apply(self, units: Iterable[Unit], now: float) -> list[Action]:
        """Apply definitions of units: start units that are missing or failed, restart units that have changed, run every job again."""
        for unit in units:
            record = self.records.get(unit.name)
            if record is None:
                self._add(unit, now)
            else:
                self._renew(record, unit, now)
        return self._advance(now)

    def stop(self, names: Iterable[str], now: float) -> list[Action]:
        """Stop these units, each after those that need it, and remove them."""
        for name in names:
            record = self.records.get(name)
            if record is None:
                continue
            if record.state is ProcessState.STOPPING:
                record.successor = None
            elif record.alive:
                self._halt(record, None, now)
            else:
                self._forget(record, now)
        return self._advance(now)

    def kill(self, names: Iterable[str], now: float) -> list[Action]:
        """Kill these units immediately, in no order, as a power cut would, and remove them."""
        for name in names:
            record = self.records.get(name)
            if record is None:
                continue
            if not record.alive:
                self._forget(record, now)
                continue
            if record.state is not ProcessState.STOPPING:
                self._halt(record, None, now)
            record.asked, record.successor = True, None
            record.deadline = now + record.unit.stop_timeout_s
            self._actions.append(Kill(name))
        return self._advance(now)

    def restart(self, name: str, now: float) -> list[Action]:
        """Stop a unit and start it again."""
        record = self.records[name]
        if record.state is ProcessState.STOPPING:
            record.successor = record.successor or record.unit
        elif record.alive:
            self._halt(record, record.unit, now)
        else:
            self._begin(record, record.unit, now)
        return self._advance(now)

    # Reports of processes

    def starting(self, name: str, now: float) -> list[Action]:
        """Record that the start of a process makes progress, so that `ready_timeout_s` counts from now."""
        record = self.records.get(name)
        if record is not None and record.state is ProcessState.STARTING and record.unit.kind != JOB and not record.overdue:
            record.deadline = now + record.unit.ready_timeout_s
        return self._advance(now)

    def ready(self, name: str, now: float) -> list[Action]:
        """Record that a process has become ready."""
        record = self.records.get(name)
        if record is not None and record.state is ProcessState.STARTING and record.unit.kind != JOB and not record.overdue:
            record.proven = True
            self._enter(record, ProcessState.READY, now, deadline=now + self.policy.healthy_after_s)
        return self._advance(now)

    def exited(self, name: str, code: int | None, detail: str, now: float) -> list[Action]:
        """Record that a process has ended, or could not be started.

        Args:
            name: name of the unit.
            code: the exit code, or the negative number of a signal; `None` if the process could not be started.
            detail: a description of the process's end, with the last lines of its log.
            now: the time, in seconds of the monotonic clock.

        Returns:
            The actions that follow.
        """
        record = self.records.get(name)
        if record is not None and record.alive:
            record.alive = False
            record.exit = code if code is not None else record.exit
            if record.state is ProcessState.STOPPING:
                self._stopped(record, now)
            elif record.unit.kind == JOB and code == 0 and not record.overdue:
                self._enter(record, ProcessState.DONE, now)
            else:
                self._crashed(record, detail, now)
        return self._advance(now)

    # Time

    def next_deadline(self) -> float | None:
        """Return the time of the next timer; `None` if no timer runs."""
        return min((r.deadline for r in self.records.values() if r.deadline is not None), default=None)

    def tick(self, now: float) -> list[Action]:
        """Fire the timers that are due."""
        for record in self.records.values():
            if record.deadline is not None and record.deadline <= now:
                record.deadline = None
                self._due(record, now)
        return self._advance(now)

    # Transitions

    def _add(self, unit: Unit, now: float) -> None:
        if unit.kind == FORK_SERVER:
            self.records[unit.name] = ProcessRecord(unit, now, ProcessState.STOPPED)
            return
        record = self.records[unit.name] = ProcessRecord(unit, now)
        self._report(record, 0.0)

    def _renew(self, record: ProcessRecord, unit: Unit, now: float) -> None:
        changed = unit.signature != record.unit.signature
        if record.state is ProcessState.STOPPING:
            record.successor = unit
        elif record.alive and changed:
            self._halt(record, unit, now)
        elif record.alive or record.state is ProcessState.STOPPED:
            record.unit = unit
            if record.state is ProcessState.READY and unit.kind != FORK_SERVER:
                self._report(record, 0.0, "unchanged")
        elif unit.kind == FORK_SERVER and record.state is ProcessState.FAILED:
            self.records[unit.name] = ProcessRecord(unit, now, ProcessState.STOPPED, restarts=record.restarts)
        else:
            self._begin(record, unit, now)

    def _begin(self, record: ProcessRecord, unit: Unit, now: float) -> None:
        record.unit = unit
        record.proven, record.strikes, record.detail, record.successor = False, 0, "", None
        self._enter(record, ProcessState.WAITING, now)

    def _halt(self, record: ProcessRecord, successor: Unit | None, now: float) -> None:
        record.asked, record.successor = False, successor
        self._enter(record, ProcessState.STOPPING, now)

    def _stopped(self, record: ProcessRecord, now: float) -> None:
        if record.successor is None:
            self._forget(record, now)
        else:
            self._begin(record, record.successor, now)

    def _forget(self, record: ProcessRecord, now: float) -> None:
        if record.state is not ProcessState.STOPPED:
            self._enter(record, ProcessState.STOPPED, now)
        del self.records[record.unit.name]
        self._actions.append(Forget(record.unit.name))

    def _crashed(self, record: ProcessRecord, detail: str, now: float) -> None:
        starting = record.state is ProcessState.STARTING
        if record.overdue:
            detail = f"not ready after {record.unit.ready_timeout_s:g} s; {detail}"
        record.strikes += 1
        if starting and not record.proven and self._hopeless(record):
            self._fail(record, detail, now)
            return
        record.restarts += 1
        delay_s = self.policy.delay_s(record.strikes)
        self._enter(record, ProcessState.RESTARTING, now, f"{detail}; next try in {delay_s:g} s", deadline=now + delay_s)

    def _hopeless(self, record: ProcessRecord) -> bool:
        # Another attempt would fail in the same way for a job, for the imports of a fork server, and for a start that timed out.
        return record.unit.kind != SERVICE or record.overdue or record.strikes >= self.policy.attempts

    def _fail(self, record: ProcessRecord, detail: str, now: float) -> None:
        record.detail = detail
        self._enter(record, ProcessState.FAILED, now, detail)

    def _due(self, record: ProcessRecord, now: float) -> None:
        name = record.unit.name
        if record.state is ProcessState.STARTING and not record.overdue:
            # On SIGABRT, Python writes the stacks of all threads to the log, which shows where the process hangs.
            record.overdue = True
            record.deadline = now + self.policy.abort_grace_s
            self._actions.append(Signal(name, signal.SIGABRT))
        elif record.state in (ProcessState.STARTING, ProcessState.STOPPING):
            self._actions.append(Signal(name, signal.SIGKILL))
        elif record.state is ProcessState.READY:
            record.strikes = 0
        elif record.state is ProcessState.RESTARTING:
            self._enter(record, ProcessState.WAITING, now)

    def _advance(self, now: float) -> list[Action]:
        """Move every unit as far as the states of the other units allow, and return the actions that follow."""
        while any(self._move(record, now) for record in list(self.records.values())):
            pass
        actions, self._actions = self._actions, []
        return actions

    def _move(self, record: ProcessRecord, now: float) -> bool:
        if record.state is ProcessState.WAITING:
            return self._try_start(record, now)
        if record.state is ProcessState.STOPPING and not record.asked and not self._still_needed(record):
            record.asked = True
            record.deadline = now + record.unit.stop_timeout_s
            self._actions.append(Signal(record.unit.name, signal.SIGTERM))
            return True
        return False

    def _try_start(self, record: ProcessRecord, now: float) -> bool:
        needs = [self.records[name] for name in record.unit.needs if name in self.records]
        for need in needs:
            if need.state is ProcessState.FAILED:
                self._fail(record, f"needs {need.unit.name}, which failed: {need.detail}", now)
                return True
        dormant = [need for need in needs if need.state is ProcessState.STOPPED]
        for need in dormant:
            self._enter(need, ProcessState.WAITING, now)
        if not all(need.state in (ProcessState.READY, ProcessState.DONE) for need in needs):
            return bool(dormant)
        record.alive, record.overdue = True, False
        self._enter(record, ProcessState.STARTING, now, deadline=now + record.unit.ready_timeout_s)
        self._actions.append(Launch(record.unit.name))
        return True

    def _still_needed(self, record: ProcessRecord) -> bool:
        return any(
            other.state is ProcessState.STOPPING and other.alive and record.unit.name in other.unit.needs for other in self.records.values()
        )

    def _enter(self, record: ProcessRecord, state: ProcessState, now: float, detail: str = "", *, deadline: float | None = None) -> None:
        seconds = now - record.since
        record.state, record.since, record.deadline = state, now, deadline
        self._report(record, seconds, detail)

    def _report(self, record: ProcessRecord, seconds: float, detail: str = "") -> None:
        self._actions.append(Report(Event(record.unit.name, record.state, seconds, detail)))
