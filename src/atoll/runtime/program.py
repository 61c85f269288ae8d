"""Supervised processes that become a program of the machine: a database server, a switch, a hypervisor's daemon.

The process executes the program in place of Python, so that the program itself is the supervisor's child and receives the supervisor's
signals. A second, short-lived process reports that the program is ready.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from atoll.runtime.child import Child
from atoll.runtime.fork_server import LOCK

POLL_MS = 20
"""Milliseconds between two checks whether the program is ready."""


def become(child: Child, command: Sequence[str], ready: Callable[[], bool], environment: Mapping[str, str] | None = None) -> None:
    """Replace this process with a program; this function does not return.

    Args:
        child: this process, which must have one thread.
        command: the program and its arguments; the program must stay in the foreground and end on SIGTERM.
        ready: returns whether the program can serve; called repeatedly in another process.
        environment: variables to add to the environment.

    Raises:
        SystemExit: the program is not installed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not installed")
    _watch(child, ready)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE, and the program would otherwise ignore it too
    with suppress(OSError):  # tests have no lock file
        os.set_inheritable(LOCK, True)
    os.execve(program, list(command), os.environ | dict(environment or {}))  # noqa: S606 - on purpose without a shell


def _watch(child: Child, ready: Callable[[], bool]) -> None:
    """Fork a process that reports to the supervisor when the program of this process is ready."""
    program = os.getpid()
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    if os.fork():
        os._exit(0)  # leave the watcher to the supervisor, because the program does not expect to have a child
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if _becomes_true(ready, program):
            child.ready()
        code = 0
    finally:
        os._exit(code)


def _becomes_true(ready: Callable[[], bool], program: int) -> bool:
    """Wait until `ready` returns true; return False if the program has died before."""
    try:
        descriptor = os.pidfd_open(program)
    except ProcessLookupError:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not ready():
        if poll.poll(POLL_MS):
            return False
    return True
