"""A place of an experiment's own, of which nothing is left in the end: directory, ports, processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from atoll.bench.measure import Say, failed, family
from atoll.cloud.model import PORT_STEP
from atoll.runtime.linux import adopt_orphans

HOST = "127.0.0.1"
"""All traffic of an experiment stays on this machine."""

_FIRST_PORT, _LAST_PORT = 20000, 32000
"""Above the default ports of sites, below those that the kernel gives to clients (32768 and up)."""

_PATIENCE_S = 20.0


@contextmanager
def workspace(say: Say) -> Iterator[Path]:
    """A temporary directory; in the end, also after Ctrl-C or SIGTERM, it and every process started meanwhile are gone.

    Call it in the main thread.

    Args:
        say: told when cleaning up takes a moment.
    """
    adopt_orphans()  # daemons that leave their parents stay below this process, and can be found
    before = set(family([os.getpid()]))
    root = Path(tempfile.mkdtemp(prefix="atoll-bench-"))
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield root
    finally:
        # A second Ctrl-C, meant for the same thing, must not leave half of it behind.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("cleaning up")
        stop_all(lambda: [pid for pid in family([os.getpid()]) if pid not in before])
        shutil.rmtree(root, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_all(pids: Callable[[], list[int]]) -> None:
    """End processes: SIGTERM to those nobody else answers for, so that each can end its own; SIGKILL to what stays.

    Args:
        pids: those that are left, now.
    """
    psutil.wait_procs(_signalled((pid for pid in pids() if _parent(pid) == os.getpid()), signal.SIGTERM), timeout=_PATIENCE_S)
    psutil.wait_procs(_signalled(pids(), signal.SIGKILL), timeout=_PATIENCE_S)


def _parent(pid: int) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).ppid()
    return None


def _signalled(pids: Iterable[int], number: int) -> list[psutil.Process]:
    processes = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.send_signal(number)
            processes.append(process)
    return processes


def free_ports(count: int, step: int = PORT_STEP, first: int = _FIRST_PORT) -> list[int]:
    """Base ports, each with all ports up to the next step free.

    Args:
        count: how many.
        step: ports per base.
        first: the lowest port to look at.

    Raises:
        AtollError: `bench.failed`: this machine has not as many.
    """
    bases: list[int] = []
    for base in range(first, _LAST_PORT, step):
        if len(bases) == count:
            break
        if all(_is_free(port) for port in range(base, base + step)):
            bases.append(base)
    if len(bases) < count:
        raise failed(f"there are no {count * step} free ports between {first} and {_LAST_PORT} on {HOST}")
    return bases


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        # As servers bind: a port whose last connections still linger (TIME_WAIT) is free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
        return True
