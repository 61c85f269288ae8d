"""The client's side of the control socket, and how to find or start the supervisor of a directory."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.errors import AtollError
from atoll.runtime import linux
from atoll.runtime.events import Event, ProcessStatus, State
from atoll.runtime.spec import Plan

__all__ = ["Control", "Event", "ProcessStatus", "State", "connect", "ensure_supervisor"]

_ANSWER_S = 10.0
_START_S = 90.0  # more than a new supervisor waits for the last processes of an old one

# What the services get of the caller's environment. Anything else (a proxy, somebody's OS_* variables) would make them
# depend on the shell that happened to start the supervisor. LD_PRELOAD: how `atoll bench faults` makes the clocks of sites wrong.
_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_PRELOAD")
_ENVIRONMENT_PREFIXES = ("LC_", "XDG_", "PYTHON", "ATOLL_")


class Control:
    """Speaks to a supervisor; every call uses a connection of its own.

    Args:
        path: of the control socket.

    Every method raises AtollError: `runtime.unreachable` if the supervisor does not answer or dies meanwhile, and
    `runtime.invalid` if it cannot make sense of the request.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def ping(self) -> dict[str, Any]:
        """The supervisor's `version` (of Atoll), `pid`, and whether it is `ending`."""
        answer: dict[str, Any] = self._ask({"verb": "ping"})
        return answer

    def start(self, plan: Plan) -> Iterator[Event]:
        """Apply a plan; the supervisor sets to work before the first event is asked for.

        Returns:
            The events of all processes and fork servers, until each process of the plan is ready or done or has failed.
            Leaving the iterator early does not stop what was begun.

        Raises:
            AtollError: at once: `state.busy` while another start, stop or restart runs; `port.in_use`, `port.unusable`,
                with nothing changed. From the iterator, after its last event: `site.failed` if a process has failed.
        """
        return self._stream({"verb": "start", "plan": plan.to_json()})

    def stop(self, names: list[str] | tuple[str, ...] | None = None) -> Iterator[Event]:
        """Stop processes, each after those that need it, and forget them; fork servers stay warm.

        Args:
            names: of processes; those that do not run are no error. None means all.

        Returns:
            The events, until all are stopped.

        Raises:
            AtollError: `state.busy`.
        """
        return self._stream({"verb": "stop", "names": None if names is None else list(names)})

    def kill(self, names: Sequence[str]) -> Iterator[Event]:
        """Kill processes by SIGKILL, all at once, and forget them: nothing restarts them but a `start`.

        Args:
            names: of processes; those that do not run are no error.

        Returns:
            The events, until all are gone.

        Raises:
            AtollError: `state.busy`.
        """
        return self._stream({"verb": "kill", "names": list(names)})

    def restart(self, name: str) -> None:
        """Stop one process or fork server and wait until it is ready again.

        Raises:
            AtollError: `process.unknown`, `state.busy`; `site.failed` if it did not become ready.
        """
        for _event in self._stream({"verb": "restart", "name": name}):
            pass

    def status(self, *, memory: bool = False) -> list[ProcessStatus]:
        """The state of the supervisor, the fork servers and all processes.

        Args:
            memory: read `memory_bytes` too, which takes some milliseconds a process.
        """
        answer = self._ask({"verb": "status"})
        statuses = [ProcessStatus.from_json(item) for item in answer]
        if memory:
            # Read here, not by the supervisor, which has more urgent things to do.
            statuses = [
                replace(status, memory_bytes=linux.proportional_set_size(status.pid)) if status.pid else status for status in statuses
            ]
        return statuses

    def shutdown(self) -> None:
        """Stop everything and the supervisor too; returns when all of it is gone."""
        with self._request({"verb": "shutdown"}, None) as messages:
            _final(next(messages))
            for _message in messages:
                pass

    def _ask(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, RUF100
        with self._request(request, _ANSWER_S) as messages:
            return _final(next(messages))

    def _stream(self, request: Mapping[str, Any]) -> Iterator[Event]:
        events = self._events(request)
        first = next(events, None)  # so that the request is sent, and refused, now
        return iter(()) if first is None else _chain(first, events)

    def _events(self, request: Mapping[str, Any]) -> Iterator[Event]:
        with self._request(request, None) as messages:
            for message in messages:
                if "event" not in message:
                    _final(message)
                    return
                yield Event.from_json(message["event"])
            raise self._lost("it has ended meanwhile")

    @contextmanager
    def _request(self, request: Mapping[str, Any], timeout_s: float | None) -> Iterator[Iterator[dict[str, Any]]]:
        try:
            with wire.connect(self.path, timeout_s) as connection, connection.makefile("rb") as file:
                connection.sendall(wire.encode(dict(request)))
                yield self._messages(file)
        except TimeoutError as error:
            raise self._lost(f"nothing came within {timeout_s:g} s") from error
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error

    def _messages(self, lines: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401, RUF100
        seen = False
        for line in lines:
            seen = True
            yield json.loads(line)
        if not seen:
            raise self._lost("it closed the connection")

    def _lost(self, why: str) -> AtollError:
        return AtollError("runtime.unreachable", f"the supervisor at {self.path} does not answer: {why}")


def connect(directory: Path | str) -> Control | None:
    """The supervisor of a state directory; None if there is none, or only one that is about to end.

    Raises:
        AtollError: `runtime.unreachable`: there is one, but it does not answer.
    """
    path = Path(directory) / wire.SOCKET
    try:
        wire.connect(path, _ANSWER_S).close()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise AtollError("runtime.unreachable", f"the supervisor at {path} cannot be reached: {error}") from error
    control = Control(path)
    try:
        return None if control.ping()["ending"] else control
    except AtollError:
        # It may have come to its end between the two.
        with suppress(OSError):
            wire.connect(path, _ANSWER_S).close()
            raise
        return None


def ensure_supervisor(directory: Path | str) -> Control:
    """The supervisor of a state directory, started if there is none. Two callers at once get the same one.

    Args:
        directory: made with mode 0700 if it is missing; else it must belong to this user, and nobody else may write to it.

    Raises:
        AtollError: `state.unusable` or `runtime.unreachable`.
    """
    directory = Path(directory).absolute()
    descriptor = _open(directory)
    try:
        control = connect(directory)
        if control is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held until the descriptor is closed
            control = connect(directory) or _start(directory)
        return control
    finally:
        os.close(descriptor)


def _open(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AtollError("state.unusable", f"{directory} cannot be used: {error.strerror}") from error
    status = os.fstat(descriptor)
    # Not chmod: somebody may have said `--state /tmp`.
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise AtollError("state.unusable", f"{directory} can be changed by others", "name a directory that only you can write to")
    return descriptor


def _start(directory: Path) -> Control:
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
        _final(json.loads(done.stdout))
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        message = f"no supervisor can be started: {said or f'exit status {done.returncode}'}"
        raise AtollError("runtime.unreachable", message) from error
    return Control(directory / wire.SOCKET)


def _passes(name: str) -> bool:
    return name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)


def _final(message: dict[str, Any]) -> Any:  # noqa: ANN401, RUF100
    if "error" in message:
        raise wire.error_from_json(message["error"])
    return message["ok"]


def _chain(first: Event, rest: Iterator[Event]) -> Iterator[Event]:
    yield first
    yield from rest
