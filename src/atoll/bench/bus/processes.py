"""Worker processes, as the experiment's own process sees them."""

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

from atoll.bench.measure import failed

PATIENCE_S = 120.0
"""Seconds that an answer may take, beyond what was asked for: workers of two cores that do a thousand things at once are slow."""


class Process:
    """A process that takes commands; see `worker.obey`.

    Args:
        name: for messages.
        log: the file with what it says.

    Attributes:
        pid: 0 until it is known.
        far: the end of the connection that is the process's.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.pid = 0
        self.log = log
        self._connection, self.far = Pipe()

    def tell(self, command: str, **arguments: object) -> None:
        """Ask for something without waiting; `answer` then waits."""
        try:
            self._connection.send((command, arguments))
        except OSError as error:
            raise self._died() from error

    def answer(self, timeout_s: float = PATIENCE_S) -> Any:  # noqa: ANN401, RUF100 - whatever the command returns
        """The result of the command that was told first, of those not answered yet; at the very first, that the process is ready.

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

    def ask(self, command: str, **arguments: object) -> Any:  # noqa: ANN401, RUF100
        """`tell`, then `answer`."""
        self.tell(command, **arguments)
        return self.answer()

    def ready(self) -> bool:
        """True if `answer` need not wait."""
        return self._connection.poll(0)

    def _died(self) -> Exception:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if self.log.exists() else []
        return failed(f"{self.name} has ended: {lines[-1][:300] if lines else 'it said nothing'}")


class Worker(Process):
    """A process that was forked from a `Template`. It is not this process's child."""

    def __init__(self, name: str, log: Path) -> None:
        super().__init__(name, log)
        self._descriptor = -1  # of the process; none before it is born, and after it has ended

    def born(self, pid: int) -> None:
        """Take note of its pid, and wait until it is ready."""
        self.pid = pid
        self.far.close()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise self._died() from error
        self.answer()

    @property
    def running(self) -> bool:
        """False once it has ended."""
        return not self._ended(0)

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            AtollError: `bench.failed`: it has ended by itself.
        """
        if not self.running:
            raise self._died()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait until it has gone.

        Raises:
            AtollError: `bench.failed`: it would not go.
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


class Template(Process):
    """The process that has imported everything, and forks the workers. It dies with this one, and they with it.

    Args:
        logs: the directory of all logs.
        environment: their variables.
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
        """A new worker.

        Args:
            role: a key of `worker.ROLES`.
            name: of its log.
        """
        worker = Worker(name, self.logs / f"{name}.log")
        self.tell("fork", role=role, log=str(worker.log))
        send_handle(self._connection, worker.far.fileno(), self.pid)
        worker.born(self.answer())
        return worker

    def end(self) -> None:
        """End it, and with it all workers that are left."""
        self._connection.close()
        self._process.wait(PATIENCE_S)


def share(total: int, parts: int) -> list[int]:
    """A number divided into at most so many parts that differ by at most one, none of them 0; the larger first."""
    parts = min(total, parts)
    return [total // parts + (index < total % parts) for index in range(parts)]


def ask_all(workers: Iterable[Worker], command: str, **arguments: object) -> list[Any]:
    """Ask several at once; their answers, in their order."""
    chosen = list(workers)
    for worker in chosen:
        worker.tell(command, **arguments)
    return [worker.answer() for worker in chosen]


def end_all(workers: Iterable[Worker]) -> None:
    """End workers in good order, one after the other."""
    for worker in workers:
        worker.end()
