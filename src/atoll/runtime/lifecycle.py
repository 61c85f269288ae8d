"""When to start, restart, give up and stop: a state machine without clock, process or socket.

Every method is told the time and returns what is to be done. The supervisor does it and reports back what became of it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.runtime.events import Event, State

SERVICE, JOB, FORK_SERVER = "service", "job", "fork_server"


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is.

    Attributes:
        first_delay_s: seconds before the first restart; each further one waits twice as long. Raising it saves CPU when
            something is broken, and makes the recovery from a single crash slower.
        longest_delay_s: seconds that a restart waits at most.
        healthy_after_s: seconds of being ready after which earlier crashes are forgotten.
        attempts: how often a process that was never ready may die while starting before it has failed for good.
        abort_grace_s: seconds that a process which hangs while starting gets to write its stack to its log.
    """

    first_delay_s: float = 0.1
    longest_delay_s: float = 30.0
    healthy_after_s: float = 60.0
    attempts: int = 3
    abort_grace_s: float = 2.0

    def delay_s(self, strikes: int) -> float:
        """Seconds to wait before the restart that follows so many crashes (1 or more) in a row."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(strikes - 1, 30))


@dataclass(frozen=True)
class Unit:
    """What the machine has to know of a process or a fork server.

    Attributes:
        name: unique.
        kind: SERVICE, JOB or FORK_SERVER.
        needs: names of units that must be up first. A name that is not known (any more) is no obstacle.
        signature: differs between definitions if a running process must be restarted to change from one to the other.
        ready_timeout_s: seconds that starting may take.
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
    """Start a process of this name."""

    name: str


@dataclass(frozen=True)
class Signal:
    """Send a signal to the process of this name."""

    name: str
    signum: int


@dataclass(frozen=True)
class Kill:
    """Send SIGKILL to the process of this name; if it is being forked still, as soon as it is there."""

    name: str


@dataclass(frozen=True)
class Report:
    """Tell the world."""

    event: Event


@dataclass(frozen=True)
class Forget:
    """The unit is gone: let go of what is held for it."""

    name: str


Action = Launch | Signal | Kill | Report | Forget


@dataclass
class Record:
    """A unit and where it is in its life.

    Attributes:
        unit: what it is.
        since: when it entered its state.
        state: STOPPED is a fork server that nobody has needed yet.
        alive: True from `Launch` until the exit was reported.
        deadline: when the timer of this state fires.
        asked: SIGTERM was sent.
        overdue: it was killed because starting took too long.
        proven: it was ready since it was defined, so it gets more patience than one that never worked.
        strikes: crashes in a row.
        restarts: crashes in all.
        exit: how the last run ended.
        detail: why it failed.
        successor: what to go on with when it has stopped; None means to forget it.
    """

    unit: Unit
    since: float
    state: State = State.WAITING
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
    """All units of a supervisor.

    Attributes:
        policy: how patient to be.
        records: the units, by name.
    """

    policy: Policy = field(default_factory=Policy)
    records: dict[str, Record] = field(default_factory=dict)
    _actions: list[Action] = field(default_factory=list)

    # What a person asks for

    def apply(self, units: Iterable[Unit], now: float) -> list[Action]:
        """Make these units run: start what is missing or failed, restart what has changed, run every job once more."""
        for unit in units:
            record = self.records.get(unit.name)
            if record is None:
                self._add(unit, now)
            else:
                self._renew(record, unit, now)
        return self._advance(now)

    def stop(self, names: Iterable[str], now: float) -> list[Action]:
        """Stop these units, each after those that need it, and forget them."""
        for name in names:
            record = self.records.get(name)
            if record is None:
                continue
            if record.state is State.STOPPING:
                record.successor = None
            elif record.alive:
                self._halt(record, None, now)
            else:
                self._forget(record, now)
        return self._advance(now)

    def kill(self, names: Iterable[str], now: float) -> list[Action]:
        """Kill these units at once, in no order, as a power cut would, and forget them."""
        for name in names:
            record = self.records.get(name)
            if record is None:
                continue
            if not record.alive:
                self._forget(record, now)
                continue
            if record.state is not State.STOPPING:
                self._halt(record, None, now)
            record.asked, record.successor = True, None
            record.deadline = now + record.unit.stop_timeout_s
            self._actions.append(Kill(name))
        return self._advance(now)

    def restart(self, name: str, now: float) -> list[Action]:
        """Stop this unit and start it again."""
        record = self.records[name]
        if record.state is State.STOPPING:
            record.successor = record.successor or record.unit
        elif record.alive:
            self._halt(record, record.unit, now)
        else:
            self._begin(record, record.unit, now)
        return self._advance(now)

    # What the processes do

    def ready(self, name: str, now: float) -> list[Action]:
        """The process said that it is ready."""
        record = self.records.get(name)
        if record is not None and record.state is State.STARTING and record.unit.kind != JOB and not record.overdue:
            record.proven = True
            self._enter(record, State.READY, now, deadline=now + self.policy.healthy_after_s)
        return self._advance(now)

    def exited(self, name: str, code: int | None, detail: str, now: float) -> list[Action]:
        """The process has ended, or could not be started.

        Args:
            name: whose process.
            code: the exit code, or the negative number of a signal; None if it could not be started.
            detail: for a person: how it ended and the last lines of its log.
            now: the time.

        Returns:
            What to do.
        """
        record = self.records.get(name)
        if record is not None and record.alive:
            record.alive = False
            record.exit = code if code is not None else record.exit
            if record.state is State.STOPPING:
                self._stopped(record, now)
            elif record.unit.kind == JOB and code == 0 and not record.overdue:
                self._enter(record, State.DONE, now)
            else:
                self._crashed(record, detail, now)
        return self._advance(now)

    # What the clock does

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None if never."""
        return min((r.deadline for r in self.records.values() if r.deadline is not None), default=None)

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        for record in self.records.values():
            if record.deadline is not None and record.deadline <= now:
                record.deadline = None
                self._due(record, now)
        return self._advance(now)

    # Transitions

    def _add(self, unit: Unit, now: float) -> None:
        if unit.kind == FORK_SERVER:
            self.records[unit.name] = Record(unit, now, State.STOPPED)
            return
        record = self.records[unit.name] = Record(unit, now)
        self._report(record, 0.0)

    def _renew(self, record: Record, unit: Unit, now: float) -> None:
        changed = unit.signature != record.unit.signature
        if record.state is State.STOPPING:
            record.successor = unit
        elif record.alive and changed:
            self._halt(record, unit, now)
        elif record.alive or record.state is State.STOPPED:
            record.unit = unit
            if record.state is State.READY and unit.kind != FORK_SERVER:
                self._report(record, 0.0, "unchanged")
        elif unit.kind == FORK_SERVER and record.state is State.FAILED:
            self.records[unit.name] = Record(unit, now, State.STOPPED, restarts=record.restarts)
        else:
            self._begin(record, unit, now)

    def _begin(self, record: Record, unit: Unit, now: float) -> None:
        record.unit = unit
        record.proven, record.strikes, record.detail, record.successor = False, 0, "", None
        self._enter(record, State.WAITING, now)

    def _halt(self, record: Record, successor: Unit | None, now: float) -> None:
        record.asked, record.successor = False, successor
        self._enter(record, State.STOPPING, now)

    def _stopped(self, record: Record, now: float) -> None:
        if record.successor is None:
            self._forget(record, now)
        else:
            self._begin(record, record.successor, now)

    def _forget(self, record: Record, now: float) -> None:
        if record.state is not State.STOPPED:
            self._enter(record, State.STOPPED, now)
        del self.records[record.unit.name]
        self._actions.append(Forget(record.unit.name))

    def _crashed(self, record: Record, detail: str, now: float) -> None:
        starting = record.state is State.STARTING
        if record.overdue:
            detail = f"not ready after {record.unit.ready_timeout_s:g} s; {detail}"
        record.strikes += 1
        if starting and not record.proven and self._hopeless(record):
            self._fail(record, detail, now)
            return
        record.restarts += 1
        delay_s = self.policy.delay_s(record.strikes)
        self._enter(record, State.RESTARTING, now, f"{detail}; next try in {delay_s:g} s", deadline=now + delay_s)

    def _hopeless(self, record: Record) -> bool:
        # A job and the imports of a fork server would do the same again; so would something that used up its time.
        return record.unit.kind != SERVICE or record.overdue or record.strikes >= self.policy.attempts

    def _fail(self, record: Record, detail: str, now: float) -> None:
        record.detail = detail
        self._enter(record, State.FAILED, now, detail)

    def _due(self, record: Record, now: float) -> None:
        name = record.unit.name
        if record.state is State.STARTING and not record.overdue:
            # SIGABRT makes Python write the stacks of all threads to the log: that is where it hangs.
            record.overdue = True
            record.deadline = now + self.policy.abort_grace_s
            self._actions.append(Signal(name, signal.SIGABRT))
        elif record.state in (State.STARTING, State.STOPPING):
            self._actions.append(Signal(name, signal.SIGKILL))
        elif record.state is State.READY:
            record.strikes = 0
        elif record.state is State.RESTARTING:
            self._enter(record, State.WAITING, now)

    def _advance(self, now: float) -> list[Action]:
        """Let every unit go as far as the others allow, and hand over what is to be done."""
        while any(self._move(record, now) for record in list(self.records.values())):
            pass
        actions, self._actions = self._actions, []
        return actions

    def _move(self, record: Record, now: float) -> bool:
        if record.state is State.WAITING:
            return self._try_start(record, now)
        if record.state is State.STOPPING and not record.asked and not self._still_needed(record):
            record.asked = True
            record.deadline = now + record.unit.stop_timeout_s
            self._actions.append(Signal(record.unit.name, signal.SIGTERM))
            return True
        return False

    def _try_start(self, record: Record, now: float) -> bool:
        needs = [self.records[name] for name in record.unit.needs if name in self.records]
        for need in needs:
            if need.state is State.FAILED:
                self._fail(record, f"needs {need.unit.name}, which failed: {need.detail}", now)
                return True
        dormant = [need for need in needs if need.state is State.STOPPED]
        for need in dormant:
            self._enter(need, State.WAITING, now)
        if not all(need.state in (State.READY, State.DONE) for need in needs):
            return bool(dormant)
        record.alive, record.overdue = True, False
        self._enter(record, State.STARTING, now, deadline=now + record.unit.ready_timeout_s)
        self._actions.append(Launch(record.unit.name))
        return True

    def _still_needed(self, record: Record) -> bool:
        return any(
            other.state is State.STOPPING and other.alive and record.unit.name in other.unit.needs for other in self.records.values()
        )

    def _enter(self, record: Record, state: State, now: float, detail: str = "", *, deadline: float | None = None) -> None:
        seconds = now - record.since
        record.state, record.since, record.deadline = state, now, deadline
        self._report(record, seconds, detail)

    def _report(self, record: Record, seconds: float, detail: str = "") -> None:
        self._actions.append(Report(Event(record.unit.name, record.state, seconds, detail)))
