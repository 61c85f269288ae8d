import threading
from collections.abc import Iterator

import pytest

from atoll.bench.bus.accounting import numbers_in
from atoll.bench.bus.clients import Casters, cast_each
from atoll.bench.bus.work import CallTally, Threads, Window, work


class Clock:
    """A clock that each request advances by its duration."""

    def __init__(self, *takes: float) -> None:
        self.now = 0.0
        self._takes: Iterator[float] = iter(takes)

    def __call__(self) -> float:
        return self.now

    def request(self) -> None:
        self.now += next(self._takes)


def test_requests_are_counted_if_they_end_in_the_window():
    clock = Clock(0.5, 1.0, 1.0, 2.0)
    tally = work(Window(0.0, 1.0, 3.0), clock.request, clock)
    assert tally.sent == 4
    assert tally.counted == 2  # those that ended at 1.5 and 2.5; the one that ended at 4.5 was too late
    assert list(tally.seconds) == [1.0, 2.0]  # those begun at 1.5 and 2.5, at whatever time they ended


def test_errors_are_counted_and_no_request():
    clock = Clock()

    def fail() -> None:
        clock.now += 1
        raise TimeoutError(f"at {clock.now:.0f}")

    tally = work(Window(0.0, 0.0, 5.0), fail, clock)
    assert (tally.sent, tally.counted, len(tally.seconds)) == (0, 0, 0)
    assert tally.errors == {"TimeoutError": 5}
    assert tally.examples == ["TimeoutError: at 1", "TimeoutError: at 2", "TimeoutError: at 3"]


def test_tallies_add_up():
    one, other = CallTally(sent=2, counted=1), CallTally(sent=3, counted=3)
    one.seconds.append(1.0)
    other.seconds.append(2.0)
    other.fail(OSError("no"))
    one.add(other)
    assert (one.sent, one.counted, list(one.seconds), one.errors, one.examples) == (5, 4, [1.0, 2.0], {"OSError": 1}, ["OSError: no"])


def test_all_threads_work_at_the_same_time():
    together = threading.Barrier(3, timeout=30)
    threads = Threads(3)
    for _ in range(2):  # the same threads again
        assert sorted(threads.run(lambda number: (together.wait(), number)[1])) == [0, 1, 2]


def test_the_exception_of_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        Threads(2).run(lambda number: 1 // number)


def test_threads_end():
    before = set(threading.enumerate())
    threads = Threads(2)
    threads.run(lambda _number: None)
    ours = set(threading.enumerate()) - before
    threads.end()
    for thread in ours:
        thread.join(30)
    assert len(ours) == 2
    assert not any(thread.is_alive() for thread in ours)


def test_each_cast_is_acknowledged_or_failed():
    def cast(number: int) -> None:
        if number % 3 == 0:
            raise OSError("nobody listens")

    acknowledged, failed, tally = cast_each(range(0, 10, 1), cast)
    assert list(failed) == [0, 3, 6, 9]
    assert list(acknowledged) == [1, 2, 4, 5, 7, 8]
    assert (tally.sent, tally.errors) == (6, {"OSError": 4})


class FakeClient:
    def __init__(self, taken: list[int]) -> None:
        self.taken = taken

    def cast(self, _context, method, number):
        assert method == "note"
        if number == 13:
            raise OSError("nobody listens")
        self.taken.append(number)


def test_numbers_are_shared_out_and_written_down(tmp_path):
    casters, taken = Casters(), []
    casters.prepare(3)
    casters._clients = [FakeClient(taken) for _ in range(3)]
    tally, _ended = casters.cast_numbers(10, 20, str(tmp_path), "casters-0")
    assert sorted(taken) == [10, 11, 12, 14, 15, 16, 17, 18, 19]
    assert sorted(numbers_in([tmp_path / "casters-0.acknowledged"])) == sorted(taken)
    assert list(numbers_in([tmp_path / "casters-0.failed"])) == [13]
    assert (tally.sent, tally.examples) == (9, ["OSError: nobody listens"])
