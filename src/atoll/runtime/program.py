"""A process that becomes a program of the machine: a database server, a switch, a hypervisor's daemon.

Nothing of Python is left of it: the supervisor has the program itself as its child, and signals it. Who tells that the program is ready
is a second, short-lived process.
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
"""How often is looked whether the program is ready, in milliseconds."""


def become(child: Child, command: Sequence[str], ready: Callable[[], bool], environment: Mapping[str, str] | None = None) -> None:
    """Replace this process by a program; it does not return.

    Args:
        child: this process. It must have one thread.
        command: the program and its arguments; it must stay in the foreground, and end on SIGTERM.
        ready: says whether the program can serve; asked again and again, in another process.
        environment: variables to set besides those that are there.

    Raises:
        SystemExit: the program is not installed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not installed")
    _watch(child, ready)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and programs inherit that
    with suppress(OSError):  # a test has none
        os.set_inheritable(LOCK, True)
    os.execve(program, list(command), os.environ | dict(environment or {}))  # noqa: S606 - no shell is what is wanted


def _watch(child: Child, ready: Callable[[], bool]) -> None:
    """Fork a process that tells the supervisor when this one, whatever it has become, is ready."""
    program = os.getpid()
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    if os.fork():
        os._exit(0)  # so that the supervisor gets the watcher: a program would not know whose child that is
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if _becomes_true(ready, program):
            child.ready()
        code = 0
    finally:
        os._exit(code)


def _becomes_true(ready: Callable[[], bool], program: int) -> bool:
    """Wait until `ready` says so; False if the program has died before."""
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
