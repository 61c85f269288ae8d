"""A process that has imported a program and forks one child per request.

Importing costs seconds and tens of megabytes; forking what is imported already costs milliseconds, and the children share
the pages. The supervisor starts the root (`python -m atoll.runtime.fork_server`); every other fork server is forked from its
parent, calls its preload function and then waits for requests in turn. So a fork server is a child like any other until
it starts to serve.

A request is one datagram: JSON, and with it the descriptors of the log, of a pipe to the supervisor (the child writes its
pid and later "ready" into it) and of the listening sockets. The child is forked twice: when the process between ends, the
kernel hands the child to the supervisor, which learns its exit status and does not lose it when the fork server dies.
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
from atoll.runtime import linux, memory

# Where the supervisor puts the descriptors of the root.
ROOT_CHANNEL, ROOT_STATUS = 3, 4
LOCK = 5
"""The supervisor's lock file. All its descendants hold it, so that a new supervisor can wait until the last is gone."""

HOOK = "ATOLL_PROCESS_HOOK"
"""The variable, in the environment of the supervisor, that names an entry which each service and job calls before its own.

It is for experiments that must see, or disturb, what a process does; see `atoll.bench.crashes`.
"""

MESSAGE_LIMIT = 128 * 1024
DESCRIPTOR_LIMIT = 253  # SCM_MAX_FD of Linux


@dataclass(frozen=True)
class Request:
    """What to fork.

    Attributes:
        supervisor: pid of the supervisor, which the child must end up with as its parent.
        name: of the process.
        title: for `ps`.
        kind: `service`, `job` or `fork_server`.
        entry: `module:function`; for a fork server its preload function or None.
        arguments: JSON data for the entry.
        directory: working directory.
        network: fields of the `Namespace` to live in, or None.
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
        """As JSON."""
        return json.dumps(self.__dict__).encode()


GC_THRESHOLDS = (10_000, 10, 10)
"""How many new objects start a collection, and how many collections of a generation start one of the next.

Python's own (700, 10, 10) are made for small programs: services that load rows into objects spend a fifth of their time in the collector.
Higher: less work, more memory between two collections.
"""


SWITCH_INTERVAL_S = 0.05
"""How long a thread may compute before another one gets its turn, in seconds.

A service's threads give way of themselves every few milliseconds, at each statement and each socket. Python's own 5 ms only adds switches
in between: with 50 ms ten clients got a fifth more servers booted in the same time. Higher: a thread that computes for long delays others.
"""


@dataclass
class Birth:
    """A process right after it was forked.

    Attributes:
        request: what it is to become.
        status: descriptor of the pipe to the supervisor.
        sockets: listening sockets; a fork server has one, on which it gets its requests.
    """

    request: Request
    status: int
    sockets: list[socket.socket]


def resolve(entry: str) -> Callable[..., Any]:
    """The function that `module:function` names.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such function.
    """
    module, _, name = entry.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def live(birth: Birth) -> NoReturn:
    """Be what was asked for. A fork server comes back here in each of its children, with a shallow stack."""
    try:
        while birth.request.kind == "fork_server":
            _preload(birth)
            birth = _serve(birth)
        code = _run(birth)
    except BaseException:  # noqa: BLE001, RUF100 - a forked process must not fall out of this function
        traceback.print_exc()
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    linux.flush()
    os._exit(code)


def _run(birth: Birth) -> int:
    request = birth.request
    child = child_module.Child(request.name, request.arguments, birth.sockets, birth.status, job=request.kind == "job")
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.chdir(request.directory)
    if request.network is not None:
        Namespace(**request.network).enter()  # type: ignore[arg-type]
    if os.environ.get(HOOK):
        resolve(os.environ[HOOK])(child)
    return child_module.run(resolve(request.entry or ""), child)


def _preload(birth: Birth) -> None:
    """Import what the children will need, and see to it that forking is safe and cheap afterwards."""
    # A collection writes to every object: the pages that children share would be copied. So: none while importing, one
    # at the end, and then all that exists is set aside for good.
    gc.disable()
    if birth.request.entry is not None:
        resolve(birth.request.entry)()
    gc.collect()
    memory.immortalize()
    memory.fill_holes()
    memory.fill_heap()
    gc.freeze()
    if linux.thread_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        message = f"{birth.request.entry} has started threads ({names or 'not by Python'}), so that its process cannot be forked safely"
        raise RuntimeError(message)
    os.write(birth.status, b"ready\n")
    os.close(birth.status)


def _serve(birth: Birth) -> Birth:
    """Fork a child per request; returns in the children only."""
    (channel,) = birth.sockets
    while True:
        data, descriptors, _flags, _address = socket.recv_fds(channel, MESSAGE_LIMIT, DESCRIPTOR_LIMIT)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # Python 3.11 forgets the flag that would ask for it
        if not data:  # the supervisor has no use for this fork server any more
            _leave(0)
        try:
            born = _fork(data, descriptors)
        except (OSError, ValueError, TypeError):
            # The pipe is closed below without a pid written, which tells the supervisor.
            traceback.print_exc()
            born = None
        if born is not None:
            channel.close()
            return born
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(data: bytes, descriptors: list[int]) -> Birth | None:
    """Fork twice; returns the new process's birth in the new process, and None here."""
    request = Request(**json.loads(data))
    linux.flush()
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return None
    try:
        between = os.getpid()
        if os.fork():
            os._exit(0)
        return _settle(request, between, descriptors)
    except BaseException:  # noqa: BLE001, RUF100 - must not go on as a second copy of the fork server
        traceback.print_exc()
        linux.flush()
        os._exit(1)


def _settle(request: Request, between: int, descriptors: list[int]) -> Birth:
    """Make an independent process of a fresh fork."""
    linux.await_death(between)
    linux.die_with_parent(request.supervisor)
    os.setsid()
    log, status, *rest = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.write(status, b"pid %d\n" % os.getpid())
    _reset_signals()
    linux.set_title(request.title)
    faulthandler.enable()
    return Birth(request, status, [socket.socket(fileno=descriptor) for descriptor in rest])


def _reset_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def main() -> NoReturn:
    """Become the root fork server; the supervisor has put the descriptors in place."""
    supervisor = int(sys.argv[1])
    linux.die_with_parent(supervisor)
    for descriptor in (ROOT_CHANNEL, ROOT_STATUS, LOCK):
        os.set_inheritable(descriptor, False)  # no business of programs that a service may run
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # A process that hangs while starting is aborted to see where; its memory, with all secrets, must not go to a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.write(ROOT_STATUS, b"pid %d\n" % os.getpid())
    _reset_signals()
    title = sys.argv[2]
    linux.set_title(title)
    faulthandler.enable()
    memory.share_heap()
    request = Request(supervisor, "root", title, "fork_server", None, {}, "/")
    live(Birth(request, ROOT_STATUS, [socket.socket(fileno=ROOT_CHANNEL)]))


if __name__ == "__main__":
    # Run as a program this module is "__main__"; importing it again under its name would make a second copy.
    sys.modules["atoll.runtime.fork_server"] = sys.modules["__main__"]
    main()
