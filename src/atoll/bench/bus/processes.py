"""Handles with which the experiment starts its worker processes, sends them commands and ends them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

from atoll.bench.failure import failed

PATIENCE_S = 120.0
"""Seconds to wait for an answer in addition to the command's own duration: a thousand busy threads on two cores are slow."""


class Process:
    """A process that executes commands; see `worker.obey`.

    Args:
        name: the name of the process in error messages.
        log: the file for the output of the process.

    Attributes:
        pid: the process id; 0 until it is known.
        far: the process's end of the connection.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.pid = 0
        self.log = log
        self._connection, self.far = Pipe()

    def tell(self, command: str, **arguments: object) -> None:
        """Send a command without waiting; `answer` waits for its result."""
        try:
            self._connection.send((command, arguments))
        except OSError as error:
            raise self._died() from error

    def answer(self, timeout_s: float = PATIENCE_S) -> Any:
        """Wait for the result of the oldest unanswered command, and return it.

        A new process sends one answer without a command, when it is ready.

        Raises:
            AtollError: `bench.failed`: the command failed, there was no answer in time, or the process died.
        """
        try:
            if not self._connection.poll(timeout_s):
                raise failed(f"{self.name} has not answered within {timeout_s:.0f} s")
            error, result = self._connection.recv()
        except (EOFError, OSError) as lost:
            raise self._died() from lost
        if error is not None:
            raise failed(f"{self.name}: {error}")
        return result

    def ask(self, command: str, **arguments: object) -> Any:
        """Send a command and return its result."""
        self.tell(command, **arguments)
        return self.answer()

    def ready(self) -> bool:
        """Return whether an answer has arrived, so that `answer` would not wait."""
        return self._connection.poll(0)

    def _died(self) -> Exception:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if self.log.exists() else []
        return failed(f"{self.name} has ended: {lines[-1][:300] if lines else 'its log is empty'}")


class Worker(Process):
    """A worker process. It was forked by a `WorkerTemplate`, so it is not a child of this process."""

    def __init__(self, name: str, log: Path) -> None:
        super().__init__(name, log)
        self._descriptor = -1  # the process's pidfd; -1 before it is forked and after it has ended

    def born(self, pid: int) -> None:
        """Record the pid and wait until the process is ready."""
        self.pid = pid
        self.far.close()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise self._died() from error
        self.answer()

    @property
    def running(self) -> bool:
        """True if the process is still running."""
        return not self._ended(0)

    def check(self) -> None:
        """Check that the process is running.

        Raises:
            AtollError: `bench.failed`: the process has ended by itself.
        """
        if not self.running:
            raise self._died()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the process by a signal and wait for its end.

        Raises:
            AtollError: `bench.failed`: the process did not end in time.
        """
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)
        if not self._ended(PATIENCE_S):
            raise failed(f"{self.name} has not ended within {PATIENCE_S:.0f} s after signal {number}")
        os.close(self._descriptor)
        self._descriptor = -1
        self._connection.close()

    def _ended(self, timeout_s: float) -> bool:
        if self._descriptor < 0:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


class WorkerTemplate(Process):
    """The process that has imported all modules and forks the workers. It ends with this process, and the workers end with it.

    Args:
        logs: the directory of the logs.
        environment: the environment of the processes.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        super().__init__("template", logs / "template.log")
        self.logs = logs
        words = [sys.executable, "-m", "atoll.bench.bus.worker", str(self.far.fileno()), str(os.getpid())]
        with self.far, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), pass_fds=[self.far.fileno()]
            )
        self.pid = self._process.pid
        self.answer()

    def fork(self, role: str, name: str) -> Worker:
        """Fork a worker process, and return its handle.

        Args:
            role: a key of `worker.ROLES`.
            name: the name of the worker and of its log.
        """
        worker = Worker(name, self.logs / f"{name}.log")
        self.tell("fork", role=role, log=str(worker.log))
        send_handle(self._connection, worker.far.fileno(), self.pid)
        worker.born(self.answer())
        return worker

    def end(self) -> None:
        """End the process and all workers that still run."""
        self._connection.close()
        self._process.wait(PATIENCE_S)


def share(total: int, parts: int) -> list[int]:
    """Divide a number into at most `parts` positive parts that differ by at most one, the larger parts first."""
    parts = min(total, parts)
    return [total // parts + (index < total % parts) for index in range(parts)]


def ask_all(workers: Iterable[Worker], command: str, **arguments: object) -> list[Any]:
    """Send a command to several workers at the same time, and return their results in the order of the workers."""
    chosen = list(workers)
    for worker in chosen:
        worker.tell(command, **arguments)
    return [worker.answer() for worker in chosen]


def end_all(workers: Iterable[Worker]) -> None:
    """End workers gracefully, one after the other."""
    for worker in workers:
        worker.end()
