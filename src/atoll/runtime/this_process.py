"""The calling process: its threads, its title, its limit of open files and its log."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress


def thread_count() -> int:
    """Return the number of threads of this process, including those that Python did not start."""
    return len(os.listdir("/proc/self/task"))


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
