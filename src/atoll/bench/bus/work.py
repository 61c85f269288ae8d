"""The load of an experiment: threads that send one request after the other, and the tally of the answers."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

_SHOWN = 3


@dataclass(frozen=True)
class Window:
    """The beginning, middle and end of a measurement, in seconds of `time.monotonic`.

    Attributes:
        begin: the beginning of the warm-up.
        measure: the beginning of the measurement.
        end: the end, after which no request is begun.
    """

    begin: float
    measure: float
    end: float


@dataclass
class CallTally:
    """The tally of the requests that clients made in a window.

    Attributes:
        sent: the number of successful requests that were begun in the window.
        counted: the number of those requests that ended during the measurement.
        seconds: the durations, in seconds, of those requests that were begun during the measurement.
        errors: the number of failures by the name of the exception.
        examples: the messages of a few of these exceptions.
    """

    sent: int = 0
    counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, other: CallTally) -> None:
        """Add the counts of another tally."""
        self.sent += other.sent
        self.counted += other.counted
        self.seconds.extend(other.seconds)
        self.errors.update(other.errors)
        self.examples = [*self.examples, *other.examples][:_SHOWN]

    def fail(self, error: Exception) -> None:
        """Count an exception and keep its message."""
        self.errors[type(error).__name__] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{type(error).__name__}: {error}")


def work(window: Window, request: Callable[[], Any], clock: Callable[[], float] = time.monotonic) -> CallTally:
    """Make requests one after the other, each as soon as the previous one has ended.

    Args:
        window: the times of the work.
        request: makes one request.
        clock: returns the time in seconds.
    """
    tally = CallTally()
    while (begun := clock()) < window.end:
        try:
            request()
        except Exception as error:
            tally.fail(error)
            continue
        ended = clock()
        tally.sent += 1
        if window.measure <= ended <= window.end:
            tally.counted += 1
        if begun >= window.measure:
            tally.seconds.append(ended - begun)
    return tally


class Threads:
    """Threads that all execute each task.

    They start before the transport opens, so that its measured cost does not include their memory.

    Args:
        count: the number of threads.
    """

    def __init__(self, count: int) -> None:
        self._work: list[SimpleQueue[Callable[[int], Any] | None]] = [SimpleQueue() for _ in range(count)]
        self._done: SimpleQueue[Any] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def run(self, task: Callable[[int], Any]) -> list[Any]:
        """Execute a task in each thread.

        Args:
            task: called with the number of the thread.

        Returns:
            The results, in the order in which they became available.

        Raises:
            Exception: the exception of the first task that failed.
        """
        for queue in self._work:
            queue.put(task)
        results = [self._done.get() for _ in self._work]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def end(self) -> None:
        """End all of the threads."""
        for queue in self._work:
            queue.put(None)

    def _run(self, number: int) -> None:
        while (task := self._work[number].get()) is not None:
            try:
                self._done.put(task(number))
            except BaseException as error:
                self._done.put(error)
