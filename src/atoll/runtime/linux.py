"""Functions of Linux that Python's library does not offer."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def adopt_orphans() -> None:
    """Make this process, in place of init, the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, and exit now if the parent has died already.

    The kernel binds the request to the present parent, so call this after any change of the parent.

    Args:
        parent: the expected pid of the parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def await_death(pid: int) -> None:
    """Wait until a process has died. Afterwards its children have their new parent."""
    # If the process does not exist, it has died and been reaped.
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
        finally:
            os.close(descriptor)


def thread_count() -> int:
    """Return the number of threads of this process, including those that Python did not start."""
    return len(os.listdir("/proc/self/task"))


def proportional_set_size(pid: int) -> int | None:
    """Return a process's proportional set size in bytes: shared pages are divided among their users; `None` if it can't be read."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


def set_title(title: str) -> None:
    """Set the title of this process in `ps` and `top`."""
    import setproctitle  # noqa: PLC0415 - the import itself changes a process, and other processes import this module

    setproctitle.setproctitle(title)


def raise_file_limit(most: int = 65536) -> None:
    """Raise the limit of open files of this process and its children to the hard limit, but not above `most`.

    The usual soft limit of 1024 protects programs that use select(2). A supervisor of a hundred sites has more ports than that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def flush() -> None:
    """Flush the buffers of standard output and standard error, both of which are the process's log."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
