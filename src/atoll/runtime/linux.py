"""What the runtime asks of Linux that Python has no function for."""

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
    """Become the parent of every descendant whose own parent dies, instead of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies, and end it now if that has happened already.

    The kernel binds the wish to the parent of the moment, so it comes after any re-parenting.

    Args:
        parent: the pid that the parent must have.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def await_death(pid: int) -> None:
    """Wait until the process has died; its children then have their new parent already."""
    # No such process: it was even reaped.
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
        finally:
            os.close(descriptor)


def thread_count() -> int:
    """How many threads this process has, including those that Python does not know of."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - no pathlib where memory counts


def proportional_set_size(pid: int) -> int | None:
    """Bytes of memory of a process, pages it shares being divided among their users; None if it cannot be read."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


def set_title(title: str) -> None:
    """Name this process in `ps` and `top`."""
    import setproctitle  # noqa: PLC0415 - not everything that imports this module is a process of ours

    setproctitle.setproctitle(title)


def raise_file_limit(most: int = 65536) -> None:
    """Let this process and its children open as many files as the hard limit allows, up to `most`.

    The usual soft limit of 1024 is there for programs that use select(2). A supervisor of a hundred sites has more ports than that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def flush() -> None:
    """Write out what Python has buffered for the log."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
