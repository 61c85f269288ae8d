"""Data that the supervisor sends to clients: events of processes, and the status of each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class ProcessState(StrEnum):
    """The states of a process."""

    WAITING = "waiting"
    """Waits until the processes that it needs are ready."""
    STARTING = "starting"
    """Forked, and not ready yet; for a job, running."""
    READY = "ready"
    """Serves; only services and fork servers become ready."""
    DONE = "done"
    """Ended with exit code 0; only jobs do."""
    FAILED = "failed"
    """Ended with an error, and not started again until a client does so."""
    RESTARTING = "restarting"
    """Died, and will be started again after its back-off."""
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """A change of a process's state.

    Attributes:
        process: name of the process or fork server.
        state: the new state.
        seconds: seconds spent in the previous state; for `ready`, the seconds that the start took.
        detail: the reason as text; for `failed` it ends with the last lines of the log.
    """

    process: str
    state: ProcessState
    seconds: float
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """Return the object from the data of `to_json`."""
        return cls(data["process"], ProcessState(data["state"]), data["seconds"], data["detail"])


@dataclass(frozen=True)
class ProcessStatus:
    """The present state of a process.

    Attributes:
        name: the name of the process or fork server.
        kind: `service`, `job`, `fork_server` or `supervisor`.
        state: see `ProcessState`.
        pid: the id of the process; `None` while it does not run.
        started: Unix time of the process's start, in seconds; `None` if it does not run.
        restarts: number of times that the process died and was started again.
        memory_bytes: the process's proportional set size, in which a shared page is divided among the processes that share it. `None` if it
            was not requested (reading it takes milliseconds for each process), or the process does not run.
        uptime_s: seconds since the process's start; `None` if it does not run.
        exit: the exit code of the last run, or the negative number of a signal; `None` if no run has ended.
        log: path of the process's log.
    """

    name: str
    kind: str
    state: ProcessState
    pid: int | None
    started: float | None
    restarts: int
    memory_bytes: int | None
    uptime_s: float | None
    exit: int | None
    log: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProcessStatus:
        """Return the object from the data of `to_json`."""
        return cls(**{**data, "state": ProcessState(data["state"])})
