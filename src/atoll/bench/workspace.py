"""The workspace of an experiment: its directory, ports and processes, which are all removed at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from atoll.bench.failure import failed
from atoll.bench.processes import family
from atoll.bench.progress import Say
from atoll.cloud.model import PORT_STEP
from atoll.runtime.parents import adopt_orphans

HOST = "127.0.0.1"
"""The address of an experiment's servers: its traffic stays on this machine."""

_FIRST_PORT, _LAST_PORT = 20000, 32000
"""The range of ports: above the default ports of sites, below the kernel's ephemeral ports (32768 and up)."""

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Workspace:
    """The workspace of an experiment.

    Attributes:
        root: the experiment's own directory.
        environment: the environment of the experiment's commands and other processes.
        say: called with a line about the progress.
    """

    root: Path
    environment: Mapping[str, str]
    say: Say


@contextmanager
def workspace(environment: Mapping[str, str], say: Say) -> Iterator[Workspace]:
    """Yield a workspace with a temporary directory; at the end, delete the directory and end every process that was started meanwhile.

    Ctrl-C and SIGTERM end the context too. Enter the context in the main thread.

    Args:
        environment: the environment of the experiment's processes.
        say: called with a line about the progress, and when the clean-up begins.
    """
    adopt_orphans()  # daemons that leave their parents become children of this process, so that the clean-up finds them
    before = set(family([os.getpid()]))
    root = Path(tempfile.mkdtemp(prefix="atoll-bench-"))
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield Workspace(root, environment, say)
    finally:
        # A second Ctrl-C must not interrupt the clean-up.
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
    """End processes: SIGTERM to this process's own children, which end theirs; then SIGKILL to the processes that are left.

    Args:
        pids: returns the ids of the processes that are left.
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
    """Return base ports; the `step` ports from each of them on are free.

    Args:
        count: the number of base ports.
        step: the number of ports from each base.
        first: the lowest port to try.

    Raises:
        AtollError: `bench.failed`: this machine has too few free ports.
    """
    bases: list[int] = []
    for base in range(first, _LAST_PORT, step):
        if len(bases) == count:
            break
        if all(_is_free(port) for port in range(base, base + step)):
            bases.append(base)
    if len(bases) < count:
        raise failed(f"too few ports between {first} and {_LAST_PORT} are free on {HOST}: expected {count} times {step} ports in a row")
    return bases


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        # Servers bind with this option too, so a port with connections in TIME_WAIT is considered free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
        return True
