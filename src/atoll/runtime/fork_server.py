"""A process that has imported a program and forks one child per request.

Importing a program takes seconds and tens of megabytes; a fork of a process that has imported it takes milliseconds and shares the pages.
The supervisor starts the root fork server (`python -m atoll.runtime.fork_server`). Every other fork server is forked from a fork server,
its parent, calls its preload function and then waits for requests. Until then it is a child like any other.

A request is one datagram of JSON. It carries the descriptors of the log, of a pipe to the supervisor (the child writes its pid, and later
"ready", into it) and of the listening sockets. The child is forked twice: when the intermediate process ends, the kernel makes the
supervisor the parent of the child, so that the supervisor gets the child's exit status even if the fork server dies.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from atoll.namespaces import Namespace
from atoll.runtime import child as child_module
from atoll.runtime import memory, parents, this_process

# The descriptors at which the root fork server finds its socket and its pipe.
ROOT_CHANNEL, ROOT_STATUS = 3, 4
LOCK = 5
"""The descriptor of the supervisor's lock file. All descendants inherit it, so that a new supervisor can wait until the last has ended."""

HOOK = "ATOLL_PROCESS_HOOK"
"""An environment variable of the supervisor that names a function, which each service and job calls before its own entry.

Experiments that observe or disturb processes use it; see `atoll.bench.crashes`.
"""

MESSAGE_LIMIT = 128 * 1024
DESCRIPTOR_LIMIT = 253  # SCM_MAX_FD of Linux


@dataclass(frozen=True)
class Request:
    """A request to fork one process.

    Attributes:
        supervisor: pid of the supervisor, which becomes the parent of the child.
        name: name of the process.
        title: the process's title in `ps`.
        kind: `service`, `job` or `fork_server`.
        entry: `module:function`; for a fork server, its preload function or `None`.
        arguments: JSON data for the entry.
        directory: the process's working directory.
        network: fields of the `Namespace` that the process enters; `None` means that it stays in the supervisor's network.
    """

    supervisor: int
    name: str
    title: str
    kind: str
    entry: str | None
    arguments: dict[str, Any]
    directory: str
    network: dict[str, str | None] | None = None

    def encode(self) -> bytes:
        """Return the request as JSON."""
        return json.dumps(self.__dict__).encode()


GC_THRESHOLDS = (10_000, 10, 10)
"""Thresholds of the garbage collector (`gc.set_threshold`).

The first is the number of new objects that start a collection. The others are the numbers of collections of one generation that start a
collection of the next. With Python's defaults (700, 10, 10), services that load rows into objects spend a fifth of their time in the
collector. Higher values need less processor time, but more memory between two collections.
"""


SWITCH_INTERVAL_S = 0.05
"""Seconds that a thread may run before Python switches to another one.

A service's threads release the interpreter every few milliseconds anyway, at each database statement and each use of a socket. Python's
default
of 5 ms only adds switches: with 50 ms, ten clients booted a fifth more servers in the same time. With even higher values, a thread that
computes for long delays the others.
"""


@dataclass
class ForkedProcess:
    """A newly forked process.

    Attributes:
        request: the request to fork the process.
        status: descriptor of the pipe to the supervisor.
        sockets: the process's listening sockets; a fork server has one socket, on which it receives requests.
    """

    request: Request
    status: int
    sockets: list[socket.socket]


def resolve(entry: str) -> Callable[..., Any]:
    """Return the function that `module:function` names.

    Raises:
        ImportError: the module does not exist.
        AttributeError: the module has no such function.
    """
    module, _, name = entry.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def run_forked(forked: ForkedProcess) -> NoReturn:
    """Run a newly forked process until it ends.

    A fork server's child returns from the fork server's loop to this function, so that its stack stays shallow.
    """
    try:
        while forked.request.kind == "fork_server":
            _preload(forked)
            forked = _serve(forked)
        code = _run(forked)
    except BaseException:  # whatever happens, a forked process must not return from this function
        traceback.print_exc()
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    this_process.flush()
    os._exit(code)


def _run(forked: ForkedProcess) -> int:
    request = forked.request
    child = child_module.Child(request.name, request.arguments, forked.sockets, forked.status, job=request.kind == "job")
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.chdir(request.directory)
    if request.network is not None:
        Namespace(**request.network).enter()  # type: ignore[arg-type]  # decoded JSON
    if os.environ.get(HOOK):
        resolve(os.environ[HOOK])(child)
    return child_module.run(resolve(request.entry or ""), child)


def _preload(forked: ForkedProcess) -> None:
    """Import the program of the children, and prepare memory so that forks are safe and cheap.

    Raises:
        RuntimeError: the program has started threads.
    """
    # A garbage collection writes to every object, so that shared pages would be copied. So no collection runs during the imports, and one
    # at their end; then all objects are excluded from later collections.
    gc.disable()
    if forked.request.entry is not None:
        resolve(forked.request.entry)()
    gc.collect()
    memory.immortalize()
    memory.fill_holes()
    memory.fill_heap()
    gc.freeze()
    if this_process.thread_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        message = f"{forked.request.entry} has started threads ({names or 'not by Python'}), so that its process cannot be forked safely"
        raise RuntimeError(message)
    os.write(forked.status, b"ready\n")
    os.close(forked.status)


def _serve(forked: ForkedProcess) -> ForkedProcess:
    """Fork one child per request; return in the children only."""
    (channel,) = forked.sockets
    while True:
        data, descriptors, _flags, _address = socket.recv_fds(channel, MESSAGE_LIMIT, DESCRIPTOR_LIMIT)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # Python 3.11 does not set this flag on received descriptors
        if not data:  # the supervisor has closed the socket, because this fork server is no longer needed
            _leave(0)
        try:
            born = _fork(data, descriptors)
        except (OSError, ValueError, TypeError):
            # The pipe is closed below without a pid, by which the supervisor recognises a failed launch.
            traceback.print_exc()
            born = None
        if born is not None:
            channel.close()
            return born
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(data: bytes, descriptors: list[int]) -> ForkedProcess | None:
    """Fork twice; return the new process's `ForkedProcess` in the new process, and `None` in the fork server."""
    request = Request(**json.loads(data))
    this_process.flush()
    intermediate = os.fork()
    if intermediate:
        os.waitpid(intermediate, 0)
        return None
    try:
        intermediate = os.getpid()
        if os.fork():
            os._exit(0)
        return _settle(request, intermediate, descriptors)
    except BaseException:  # the child must not continue as a second copy of the fork server
        traceback.print_exc()
        this_process.flush()
        os._exit(1)


def _settle(request: Request, intermediate: int, descriptors: list[int]) -> ForkedProcess:
    """Detach a newly forked process from the fork server: parent, session, output, signals, title."""
    parents.await_death(intermediate)
    parents.die_with_parent(request.supervisor)
    os.setsid()
    log, status, *rest = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.write(status, b"pid %d\n" % os.getpid())
    _reset_signals()
    this_process.set_title(request.title)
    faulthandler.enable()
    return ForkedProcess(request, status, [socket.socket(fileno=descriptor) for descriptor in rest])


def _reset_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def main() -> NoReturn:
    """Run the root fork server, whose descriptors the supervisor has set up."""
    supervisor = int(sys.argv[1])
    parents.die_with_parent(supervisor)
    for descriptor in (ROOT_CHANNEL, ROOT_STATUS, LOCK):
        os.set_inheritable(descriptor, False)  # programs that a service runs must not inherit these descriptors
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream
    # A process that hangs while starting is aborted to log its stacks; its memory, with all secrets, must not be dumped to a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.write(ROOT_STATUS, b"pid %d\n" % os.getpid())
    _reset_signals()
    title = sys.argv[2]
    this_process.set_title(title)
    faulthandler.enable()
    memory.share_heap()
    request = Request(supervisor, "root", title, "fork_server", None, {}, "/")
    run_forked(ForkedProcess(request, ROOT_STATUS, [socket.socket(fileno=ROOT_CHANNEL)]))


if __name__ == "__main__":
    # Run as a program, this module is "__main__"; an import under its own name would create a second copy.
    sys.modules["atoll.runtime.fork_server"] = sys.modules["__main__"]
    main()
