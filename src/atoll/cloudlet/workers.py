"""A pool of processes that yields results in order, and holds a bounded number of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from atoll.errors import AtollError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_LEAST = 1 << 28  # bytes that one process encodes in the time in which another process starts
_AHEAD = 2  # for each process, the greatest number of pieces of work that wait, or whose results wait


def suitable(files: Iterable[Path]) -> int:
    """Return the number of processes for work on files: one for each processor, unless their start would take longer than the work."""
    occupied = sum(path.stat().st_blocks * 512 for path in files if path.is_file())
    return len(os.sched_getaffinity(0)) if occupied > _LEAST else 1


class Workers:
    """A pool of processes, which start with the first piece of work.

    Args:
        processes: the number of processes; 1 means that the calling process does all work.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Yield the result of a function for each item, in order.

        Args:
            function: a function that is defined at a module's top level, so that it can be pickled.
            items: values that can be pickled.

        Raises:
            AtollError: `cloudlet.worker`: a process was killed.
            Exception: the exception that `function` raised.
        """
        if self._processes == 1:
            yield from map(function, items)
            return
        pool, waiting = self._started(), deque[Future[_Result]]()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > self._processes * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise AtollError("cloudlet.worker", "a process of this command was killed", "run it again, with fewer --jobs") from None
        finally:
            for future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("forkserver")  # a fork of a process with threads could deadlock
            context.set_forkserver_preload(["atoll.cloudlet.compress"])
            self._pool = ProcessPoolExecutor(self._processes, mp_context=context, initializer=_begin)
        return self._pool


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the main process, which ends the others
    threading.Thread(target=_end_with_main, daemon=True).start()


def _end_with_main() -> None:
    """End this process when the main process has died; otherwise the pool and its fork server would wait for work for ever."""
    main = multiprocessing.parent_process()
    assert main is not None
    wait([main.sentinel])
    os._exit(1)
