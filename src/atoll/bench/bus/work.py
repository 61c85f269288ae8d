"""How an experiment makes work: threads that ask for one thing after the other, and what they note of it."""

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
    """When clients work, by `time.monotonic`.

    Attributes:
        begin: of the work, which is warming up first.
        measure: from here on it counts.
        end: nothing is begun any more.
    """

    begin: float
    measure: float
    end: float


@dataclass
class Tally:
    """What clients did in a window.

    Attributes:
        sent: requests begun, and ended well, in the whole window and after it.
        counted: those that ended while it counted.
        seconds: how long each took that was begun while it counted.
        errors: how many of which exception.
        examples: a few of them in words.
    """

    sent: int = 0
    counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what others did."""
        self.sent += other.sent
        self.counted += other.counted
        self.seconds.extend(other.seconds)
        self.errors.update(other.errors)
        self.examples = [*self.examples, *other.examples][:_SHOWN]

    def fail(self, error: Exception) -> None:
        """Take note of an exception."""
        self.errors[type(error).__name__] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{type(error).__name__}: {error}")


def work(window: Window, request: Callable[[], Any], clock: Callable[[], float] = time.monotonic) -> Tally:
    """Make one request after the other, as soon as the one before has ended.

    Args:
        window: when.
        request: makes one.
        clock: tells the time.
    """
    tally = Tally()
    while (begun := clock()) < window.end:
        try:
            request()
        except Exception as error:  # noqa: BLE001, RUF100 - whatever a transport raises is counted
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
    """Threads that wait for work, which all get at once. They are there before a transport is, lest they be taken for its cost.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._work: list[SimpleQueue[Callable[[int], Any] | None]] = [SimpleQueue() for _ in range(count)]
        self._done: SimpleQueue[Any] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def run(self, task: Callable[[int], Any]) -> list[Any]:
        """Have each do something.

        Args:
            task: given the number of the thread.

        Returns:
            What they returned, in the order in which they ended.

        Raises:
            Exception: what the first that failed raised.
        """
        for queue in self._work:
            queue.put(task)
        results = [self._done.get() for _ in self._work]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def end(self) -> None:
        """Let them all end."""
        for queue in self._work:
            queue.put(None)

    def _run(self, number: int) -> None:
        while (task := self._work[number].get()) is not None:
            try:
                self._done.put(task(number))
            except BaseException as error:  # noqa: BLE001, RUF100 - raised again by `run`
                self._done.put(error)
