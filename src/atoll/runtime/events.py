"""What the supervisor tells: events while something changes, and the state of each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a process is in its life."""

    WAITING = "waiting"
    """for what it needs"""
    STARTING = "starting"
    """forked, not ready yet; a job: running"""
    READY = "ready"
    """a service that is up"""
    DONE = "done"
    """a job that ended well"""
    FAILED = "failed"
    """given up, until someone starts it again"""
    RESTARTING = "restarting"
    """died, and will be started again when its back-off is over"""
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """A process changed its state.

    Attributes:
        process: the name of the process or the fork server.
        state: the new state.
        seconds: how long it was in the state before (for `ready`: how long it took to start).
        detail: why, for a person; for `failed` it ends with the last lines of the log.
    """

    process: str
    state: State
    seconds: float
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """The reverse of `to_json`."""
        return cls(data["process"], State(data["state"]), data["seconds"], data["detail"])


@dataclass(frozen=True)
class ProcessStatus:
    """What is known of a process now.

    Attributes:
        name: of the process or fork server.
        kind: `service`, `job`, `fork_server` or `supervisor`.
        state: see `State`.
        pid: None while it does not run.
        started: Unix time of its start, in seconds; None if it does not run.
        restarts: how often it died and was started again.
        memory_bytes: its proportional set size: shared pages are divided among those that share them. None if nobody
            asked for it (reading it costs milliseconds a process), or it does not run.
        uptime_s: seconds since it was started; None if it does not run.
        exit: how its last run ended: the exit code, or the negative number of a signal; None if no run ended.
        log: path of its log.
    """

    name: str
    kind: str
    state: State
    pid: int | None
    started: float | None
    restarts: int
    memory_bytes: int | None
    uptime_s: float | None
    exit: int | None
    log: str

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProcessStatus:
        """The reverse of `to_json`."""
        return cls(**{**data, "state": State(data["state"])})
