"""Launches processes through fork servers, sends them signals, and reports their readiness and their exits.

The launcher decides nothing: the supervisor calls it, and receives its reports.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from atoll.runtime import fork_server
from atoll.runtime.fork_server import Request
from atoll.runtime.spec import ROOT

_TAIL_BYTES = 4096
_TAIL_LINES = 20


@dataclass
class Instance:
    """A process from its launch to its end.

    Attributes:
        name: name of the process or fork server.
        log: path of its log.
        origin: name of the fork server that forks this process; empty for the root fork server.
        offset: position in the log, in bytes, at which the lines of this run begin.
        started: Unix time of the launch, in seconds.
        pid: the id of the process; `None` until the process itself has reported it.
        pipe: descriptor from which the process's reports (its pid, "ready") are read; `None` once the pipe has ended.
        channel: the supervisor's end of a fork server's socket.
        queue: requests that wait for room in the channel.
        signum: the signal to send as soon as the pid is known.
        heard: bytes read from the pipe that are not a whole line yet.
    """

    name: str
    log: str
    origin: str = ""
    offset: int = 0
    started: float = field(default_factory=time.time)
    pid: int | None = None
    pipe: int | None = None
    channel: socket.socket | None = None
    queue: deque[tuple[bytes, list[int]]] = field(default_factory=deque)
    signum: int | None = None
    heard: bytes = b""


class Launcher:
    """Launches and watches all processes of this supervisor.

    Args:
        starting: called with the name of a process whose start makes progress.
        ready: called with the name of a process that has become ready.
        exited: called with a name, the exit code (negative for a signal, `None` if the process could not be started) and a
            description that ends with the last lines of the log.
        lock: descriptor that every process inherits.
    """

    def __init__(
        self,
        starting: Callable[[str], None],
        ready: Callable[[str], None],
        exited: Callable[[str, int | None, str], None],
        lock: int,
    ) -> None:
        self._starting = starting
        self._ready = ready
        self._exited = exited
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._instances: dict[str, Instance] = {}
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def get(self, name: str) -> Instance | None:
        """Return the running process of this name; `None` if none runs."""
        return self._instances.get(name)

    def launch_root(self, log: str, title: str) -> None:
        """Start the root fork server in a new interpreter."""
        self._launch(Instance(ROOT, log), lambda files: self._spawn(title, files), channel=True)

    def launch(self, request: Request, origin: str, log: str, sockets: Sequence[int]) -> None:
        """Have the fork server `origin` fork a process."""
        self._launch(
            Instance(request.name, log, origin),
            lambda files: self._send(origin, request.encode(), files),
            channel=request.kind == "fork_server",
            sockets=sockets,
        )

    def signal(self, name: str, signum: int) -> None:
        """Send a signal, now or as soon as the process exists."""
        instance = self._instances.get(name)
        if instance is None:
            return
        if instance.pid is not None:
            _kill(instance.pid, signum)
        elif signum == signal.SIGKILL and instance.origin:
            # The fork server does not answer, so kill it: then the pipe ends, and the launch has failed.
            self.signal(instance.origin, signal.SIGKILL)
        else:
            instance.signum = signum

    def kill(self, name: str) -> None:
        """Send SIGKILL to a process, now or as soon as it exists, but never to its fork server."""
        instance = self._instances.get(name)
        if instance is None:
            return
        if instance.pid is not None:
            _kill(instance.pid, signal.SIGKILL)
        else:
            instance.signum = signal.SIGKILL

    # Launching

    def _launch(self, instance: Instance, go: Callable[[list[int]], None], *, channel: bool, sockets: Sequence[int] = ()) -> None:
        """Create the files of a process and pass them to `go`, which owns and closes them unless it raises OSError."""
        self._instances[instance.name] = instance
        files: list[int] = []
        try:
            files.append(_open_log(instance.log))
            instance.offset = os.fstat(files[0]).st_size
            instance.pipe, writing = os.pipe2(os.O_CLOEXEC)
            files.append(writing)
            os.set_blocking(instance.pipe, False)
            self._loop.add_reader(instance.pipe, self._hear, instance)
            if channel:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.setblocking(False)
                instance.channel = ours
                files.append(theirs.detach())
            files.extend(map(os.dup, sockets))  # copies, because the supervisor may close its own while this request is queued
            go(files)
        except (OSError, ValueError) as error:
            _close(files)
            self._drop(instance.name)
            # Report later, because the state machine is in the middle of a step.
            self._loop.call_soon(self._exited, instance.name, None, f"cannot be started: {error}")

    def _spawn(self, title: str, files: list[int]) -> None:
        log, status, channel = files
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        # Move the descriptors above all target numbers, so that none is overwritten before it is copied.
        high = [_above(descriptor) for descriptor in (null, log, log, channel, status, self._lock)]
        targets = (0, 1, 2, fork_server.ROOT_CHANNEL, fork_server.ROOT_STATUS, fork_server.LOCK)
        try:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "atoll.runtime.fork_server", str(os.getpid()), title],
                # Limit the number of malloc's arenas, each of which keeps memory of its own; two are enough.
                os.environ | {"MALLOC_ARENA_MAX": "2"},
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for source, target in zip(high, targets, strict=True)],
                setsid=True,
            )
        finally:
            _close([null, *high])
        _close(files)

    def _send(self, origin: str, data: bytes, files: list[int]) -> None:
        server = self._instances.get(origin)
        if server is None or server.channel is None:
            raise OSError(f"its fork server {origin} does not run")
        server.queue.append((data, files))
        self._flush(server)

    def _flush(self, server: Instance) -> None:
        channel = server.channel
        while channel is not None and server.queue:
            data, files = server.queue[0]
            try:
                socket.send_fds(channel, [data], files)
            except BlockingIOError:
                self._loop.add_writer(channel, self._flush, server)
                return
            except OSError:
                # The fork server has died. Closing the pipe's end below makes the launch fail.
                pass
            server.queue.popleft()
            _close(files)
        if channel is not None:
            self._loop.remove_writer(channel)

    # Reports of the processes

    def _hear(self, instance: Instance) -> None:
        if instance.pipe is None:
            return
        try:
            data = os.read(instance.pipe, 4096)
        except BlockingIOError:
            return
        *lines, instance.heard = (instance.heard + data).split(b"\n")
        for line in lines:
            self._told(instance, line)
        if not data:
            self._hang_up(instance)
            if instance.pid is None:
                self._never_born(instance)

    def _told(self, instance: Instance, line: bytes) -> None:
        if line == b"ready":
            self._ready(instance.name)
        elif line == b"starting":
            self._starting(instance.name)
        elif line.startswith(b"pid ") and instance.pid is None:
            instance.pid = int(line[4:])
            if instance.signum is not None:
                _kill(instance.pid, instance.signum)

    def _never_born(self, instance: Instance) -> None:
        if self._instances.get(instance.name) is instance:
            self._drop(instance.name)
            server = self._instances.get(instance.origin)
            lines = tail(server.log, server.offset) if server else ""
            self._exited(instance.name, None, f"fork server {instance.origin} did not fork it" + (f":\n{lines}" if lines else ""))

    def _reap(self) -> None:
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            pid = info.si_pid
            instance = self._find(pid)
            if instance is not None:
                # End all processes of its group too. The zombie still has the pid, so that no other group can have this number.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if instance is not None:
                code = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
                self._ended(instance, code)

    def _find(self, pid: int) -> Instance | None:
        for instance in list(self._instances.values()):
            if instance.pid is None:
                self._hear(instance)  # the process may have reported its pid just before it died
        return next((instance for instance in self._instances.values() if instance.pid == pid), None)

    def _ended(self, instance: Instance, code: int) -> None:
        self._hear(instance)  # "ready" may still be in the pipe
        self._drop(instance.name)
        lines = tail(instance.log, instance.offset)
        self._exited(instance.name, code, describe(code) + (f"; the end of {instance.log}:\n{lines}" if lines else ""))

    def _drop(self, name: str) -> None:
        instance = self._instances.pop(name, None)
        if instance is None:
            return
        self._hang_up(instance)
        if instance.channel is not None:
            self._loop.remove_writer(instance.channel)
            instance.channel.close()
            instance.channel = None
        for _data, files in instance.queue:
            _close(files)
        instance.queue.clear()

    def _hang_up(self, instance: Instance) -> None:
        if instance.pipe is not None:
            self._loop.remove_reader(instance.pipe)
            os.close(instance.pipe)
            instance.pipe = None


def _kill(pid: int, signum: int) -> None:
    # Until this process is reaped, no other process can have its pid.
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def describe(code: int) -> str:
    """Return a description of an exit code, as text."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def tail(path: str, offset: int = 0) -> str:
    """Return the last lines of a log that were written after `offset` (bytes)."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= size else 0, size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])


def _open_log(path: str) -> int:
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)


def _above(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
