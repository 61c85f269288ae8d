"""The client of a supervisor; it also finds or starts the supervisor of a state directory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.control.client import ControlClient
from atoll.control.messages import decode, result
from atoll.errors import AtollError
from atoll.runtime import proc
from atoll.runtime.events import Event, ProcessState, ProcessStatus
from atoll.runtime.spec import Plan

__all__ = ["Event", "ProcessState", "ProcessStatus", "SupervisorClient", "connect", "ensure_supervisor"]

SOCKET = "control.sock"
"""The name of the control socket in the state directory."""

_ANSWER_S = 10.0
_START_S = 90.0  # more than the 60 s for which a new supervisor waits until the processes of an old one have ended

# The environment variables that services inherit from the caller. Others (a proxy, a person's OS_* variables) would make services depend on
# the shell that happened to start the supervisor. LD_PRELOAD is for `atoll bench faults`, which shifts the clocks of sites with it.
_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_PRELOAD")
_ENVIRONMENT_PREFIXES = ("LC_", "XDG_", "PYTHON", "ATOLL_")


class SupervisorClient:
    """The client of a supervisor.

    Args:
        path: the path of the control socket.

    Every method raises AtollError: `runtime.unreachable` if the supervisor does not answer or ends meanwhile, and
    `runtime.invalid` if the request is not valid.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._client = ControlClient(self.path, self._lost, answer_s=_ANSWER_S)

    def ping(self) -> dict[str, Any]:
        """Return the supervisor's `version` (of Atoll), its `pid`, and whether it is `ending`."""
        answer: dict[str, Any] = self._client.ask("ping")
        return answer

    def listens(self) -> bool:
        """Return whether a supervisor listens, which may be about to end."""
        return self._client.listens()

    def start(self, plan: Plan) -> Iterator[Event]:
        """Apply a plan; the supervisor begins before the first event is read.

        Returns:
            The events of all processes and fork servers, until each process of the plan is ready or done or has failed.
            Leaving the iterator early does not stop what has begun.

        Raises:
            AtollError: from this call, with nothing changed: `state.busy`: another start, stop or restart runs; `port.in_use`,
                `port.unusable`: a process can't listen at an address. From the iterator, after its last event: `site.failed`: a process
                has failed.
        """
        return self._follow("start", plan=plan.to_json())

    def stop(self, names: list[str] | tuple[str, ...] | None = None) -> Iterator[Event]:
        """Stop processes, each after those that need it, and forget them; fork servers keep running.

        Args:
            names: the names of processes, which need not run; `None` means all processes.

        Returns:
            The events, until all have stopped.

        Raises:
            AtollError: `state.busy`: another command changes the processes, or the supervisor is shutting down.
        """
        return self._follow("stop", names=None if names is None else list(names))

    def kill(self, names: Sequence[str]) -> Iterator[Event]:
        """Kill processes by SIGKILL, all at the same time, and forget them: only a `start` starts them again.

        Args:
            names: the names of processes, which need not run.

        Returns:
            The events, until all have ended.

        Raises:
            AtollError: `state.busy`: another command changes the processes, or the supervisor is shutting down.
        """
        return self._follow("kill", names=list(names))

    def restart(self, name: str) -> None:
        """Restart one process or fork server, and return when it is ready again.

        Raises:
            AtollError: `process.unknown`: there is no such process; `state.busy`: another command changes the processes; `site.failed`: the
                process did not become ready.
        """
        for _event in self._follow("restart", name=name):
            pass

    def status(self, *, memory: bool = False) -> list[ProcessStatus]:
        """Return the state of the supervisor, the fork servers and all processes.

        Args:
            memory: whether to read `memory_bytes` too, which takes some milliseconds for each process.
        """
        statuses = [ProcessStatus.from_json(item) for item in self._client.ask("status")]
        if memory:
            # The client reads the memory, because the supervisor has more urgent work.
            statuses = [
                replace(status, memory_bytes=proc.proportional_set_size(status.pid)) if status.pid else status for status in statuses
            ]
        return statuses

    def shutdown(self) -> None:
        """Stop all processes and the supervisor, and return when all have ended."""
        self._client.ask_and_await_end("shutdown")

    def _follow(self, verb: str, **fields: object) -> Iterator[Event]:
        return _parsed(self._client.follow(verb, **fields))

    def _lost(self, why: str) -> AtollError:
        return AtollError("runtime.unreachable", f"the supervisor at {self.path} does not answer: {why}")


def _parsed(events: Generator[Any, None, None]) -> Iterator[Event]:
    with closing(events):
        for event in events:
            yield Event.from_json(event)


def connect(directory: Path | str) -> SupervisorClient | None:
    """Return the client of a state directory's supervisor; `None` if no supervisor runs, or it is about to end.

    Raises:
        AtollError: `runtime.unreachable`: a supervisor runs, but does not answer.
    """
    client = SupervisorClient(Path(directory) / SOCKET)
    if not client.listens():
        return None
    try:
        return None if client.ping()["ending"] else client
    except AtollError:
        if client.listens():
            raise
        return None  # the supervisor has ended between the two checks


def ensure_supervisor(directory: Path | str) -> SupervisorClient:
    """Start the supervisor of a state directory if none runs, and return its client. Two simultaneous callers get the same supervisor.

    Args:
        directory: the state directory. If it is missing, it is made with mode 0700; otherwise it must belong to this user, and nobody else
            may be able to write to it.

    Raises:
        AtollError: `state.unusable`: the directory can't be used; `runtime.unreachable`: the supervisor did not start or does not answer.
    """
    directory = Path(directory).absolute()
    descriptor = _open(directory)
    try:
        client = connect(directory)
        if client is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held until the descriptor is closed
            client = connect(directory) or _start(directory)
        return client
    finally:
        os.close(descriptor)


def _open(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AtollError("state.unusable", f"{directory} cannot be used: {error.strerror}") from error
    status = os.fstat(descriptor)
    # Do not change the mode of the directory, because the user may have named one such as /tmp.
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise AtollError("state.unusable", f"{directory} can be changed by others", "name a directory that only you can write to")
    return descriptor


def _start(directory: Path) -> SupervisorClient:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "atoll.runtime.daemon", str(directory)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_S,
            check=False,
            cwd="/",
            env={name: value for name, value in os.environ.items() if _passes(name)},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AtollError("runtime.unreachable", f"no supervisor can be started: {error}") from error
    try:
        result(decode(done.stdout))
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        message = f"no supervisor can be started: {said or f'exit status {done.returncode}'}"
        raise AtollError("runtime.unreachable", message) from error
    return SupervisorClient(directory / SOCKET)


def _passes(name: str) -> bool:
    return name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
