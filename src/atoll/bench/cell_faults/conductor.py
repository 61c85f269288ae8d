"""The conductor of a cell's faults: waits for the time or the point of each fault, injects it, undoes it, and records these times.

Each fault has a thread of its own. When the workload ends, faults that are still in effect are undone. If the cell fails or is interrupted,
links and clocks are corrected immediately. Killed sites are not started again then, because their cloud is about to be destroyed.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from atoll.bench.cell_faults.kinds import KINDS, Stage
from atoll.bench.cell_faults.points import HELD_S, numbers_of
from atoll.bench.cell_faults.step import FaultStep
from atoll.bench.failure import failed
from atoll.bench.progress import Say
from atoll.errors import AtollError

Record = Callable[..., None]
"""Called with the fields of `atoll.experiment.samples.FaultEvent`."""


class _Running:
    """The progress of one fault, with the events that its thread and the processes of the cloud wait for.

    Attributes:
        step: the description of the fault.
        due: set when the fault is to happen, or when the workload has ended.
        settled: set when the processes that wait at the fault's point of a workflow may go on.
        seen: the number of times that the point was reached.
        happened: whether the injection began.
        error: the reason why the fault could not be injected or undone; empty if both succeeded.
    """

    def __init__(self, step: FaultStep) -> None:
        self.step = step
        self.due, self.settled = threading.Event(), threading.Event()
        self.seen, self.happened, self.error = 0, False, ""


class Conductor:
    """A context manager that injects and undoes the faults of a cell while the block runs.

    Args:
        stage: the running cloud.
        steps: the faults.
        socket_path: the path of the socket on which processes announce points.
        record: called with the times of each fault that happened.
        say: called with a line about each fault.
    """

    def __init__(self, stage: Stage, steps: Sequence[FaultStep], socket_path: Path, record: Record, say: Say) -> None:
        self._stage, self._record, self._say = stage, record, say
        self._steps = [_Running(step) for step in steps]
        self._socket_path = socket_path
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._abandoned = False
        self._begun: float | None = None
        self._threads: list[threading.Thread] = []
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def __enter__(self) -> Self:
        if any(each.step.when is not None for each in self._steps):
            self._server = _Server(str(self._socket_path), self.reach)
            threading.Thread(target=self._server.serve_forever, name="points", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._abandoned = kind is not None
        self._end()

    def begin(self) -> None:
        """Start the clock and the count of points, because the measured operations begin now."""
        with self._lock:
            if self._begun is not None:
                return
            self._begun = time.monotonic()
        for each in self._steps:
            thread = threading.Thread(target=self._happen, args=(each,), name=str(each.step), daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Undo all faults that are in effect, because the workload has ended.

        Raises:
            AtollError: `bench.failed`: a fault did not happen, or could not be injected or undone.
        """
        ended_s = self._now()
        self._end()
        for each in self._steps:
            if each.error:
                raise failed(f"fault {each.step.number}, {each.step}: {each.error}")
            if not each.happened:
                raise failed(f"fault {each.step.number}, {each.step}, did not happen: the workload ended after {ended_s:.1f} s")

    def reach(self, number: int) -> None:
        """Count that a process has reached a fault's point, and block until the process may go on.

        Args:
            number: the number of the fault.
        """
        each = next((each for each in self._steps if each.step.number == number and each.step.when is not None), None)
        with self._lock:
            if each is None or each.step.when is None or self._begun is None or self._over.is_set():
                return
            each.seen += 1
            if each.seen != each.step.when.number:
                return
        each.due.set()
        each.settled.wait(HELD_S)

    def _now(self) -> float:
        return 0.0 if self._begun is None else time.monotonic() - self._begun

    def _end(self) -> None:
        with self._lock:
            self._over.set()
        for each in self._steps:
            each.due.set()
        for thread in self._threads:
            thread.join()
        for each in self._steps:
            each.settled.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _happen(self, each: _Running) -> None:
        step = each.step
        if step.at_s is not None:
            if each.due.wait(max(0.0, step.at_s - self._now())):
                return
        else:
            each.due.wait()
            if step.when is None or each.seen < step.when.number:
                return
        each.happened = True
        self._say(f"fault {step.number}: {step}")
        started_s = self._now()
        if step.kind == "restart":  # let the process leave the point, because it may be one that must stop
            each.settled.set()
        effective_s = undone_s = ended_s = started_s
        try:
            KINDS[step.kind].inject(self._stage, step)
            effective_s = self._now()
            each.settled.set()
            self._last(step)
            undone_s = self._now()
            if not (self._abandoned and KINDS[step.kind].only_cloud):
                KINDS[step.kind].undo(self._stage, step)
            ended_s = self._now()
        except Exception as error:  # an error in a thread: `finish` raises it
            each.error = error.message if isinstance(error, AtollError) else f"{type(error).__name__}: {error}"
        finally:
            each.settled.set()
        times = (round(at, 4) for at in (started_s, effective_s, max(effective_s, undone_s), max(effective_s, undone_s, ended_s)))
        with self._lock:
            self._record(step.number, step.kind, step.target, step.cause, *times, each.error)

    def _last(self, step: FaultStep) -> None:
        """Wait until the fault is to be undone; return immediately for a killed or restarted process, which comes back by itself."""
        if step.process:
            return
        if step.kind == "restart" and step.lasts_s is None:
            return
        self._over.wait(step.lasts_s)


class _Server(socketserver.ThreadingUnixStreamServer):
    """A server that answers processes' announcements of points, each in a thread of its own."""

    daemon_threads = True
    block_on_close = False  # a process may have died at its point

    def __init__(self, path: str, reach: Callable[[int], None]) -> None:
        super().__init__(path, _Announcement)
        self.reach = reach


class _Announcement(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Call the server's `reach` for each number in an announcement, then answer, which lets the process go on."""
        with suppress(OSError, ValueError, TypeError):
            for number in numbers_of(self.rfile.readline(4096)):
                self.server.reach(number)
            self.wfile.write(b"\n")
