"""Group flush: a commit returns after a flush that began after it, and one flush serves many commits."""

from __future__ import annotations

import errno
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from atoll.db import group_flush, sqlite

PATIENCE_S = 10.0


class Disk:
    """A replacement for `fdatasync` that records the content of the log, and waits or fails as the test asks."""

    def __init__(self, database: Path) -> None:
        self.log = Path(f"{database}-wal")
        self.flushed: list[set[str]] = []
        self.files: list[int] = []
        self.failure: OSError | None = None
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def fdatasync(self, descriptor: int) -> None:
        there = set(re.findall(r"anemone|coral-\d|coral|w\d\d", self.log.read_bytes().decode("latin-1")))
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        os.fsync(descriptor)
        self.files.append(os.fstat(descriptor).st_ino)
        self.flushed.append(there)

    def holds(self, word: str) -> bool:
        """Return whether a finished flush began when the log held this word."""
        return any(word in there for there in self.flushed)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def disk(database: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(database)
    monkeypatch.setattr(group_flush.os, "fdatasync", made.fdatasync)
    monkeypatch.setattr(sqlite, "_group_flushes", {})
    return made


@pytest.fixture
def engine(disk: Disk, database: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{database}?plugin=atoll")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT)"))
    disk.flushed.clear()
    assert disk.begun.acquire(timeout=PATIENCE_S)
    yield engine
    disk.go.set()
    engine.dispose()


def write(engine: Engine, word: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})


def words(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT word FROM words ORDER BY word")).scalars())


def test_a_commit_returns_when_a_flush_that_began_after_it_is_over(engine: Engine, disk: Disk) -> None:
    write(engine, "anemone")
    assert disk.holds("anemone")


def test_one_flush_serves_all_who_committed_before_it_began(engine: Engine, disk: Disk) -> None:
    """The first commit is flushed alone; commits made meanwhile are not served by that flush, but all of them by the next."""
    disk.go.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(write, engine, "anemone")
        assert disk.begun.acquire(timeout=PATIENCE_S)
        others = [pool.submit(write, engine, f"coral-{number}") for number in range(8)]
        _await(lambda: len(words(engine)) == 9)  # committed, and visible to readers
        assert not any(each.done() for each in (first, *others))
        disk.go.set()
        for each in (first, *others):
            each.result(PATIENCE_S)
    assert disk.holds("anemone")
    assert all(disk.holds(f"coral-{number}") for number in range(8))
    assert len(disk.flushed) == 2


def test_a_flush_does_not_keep_the_next_writer_out(engine: Engine, disk: Disk) -> None:
    disk.go.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(write, engine, "anemone")
        assert disk.begun.acquire(timeout=PATIENCE_S)
        with engine.connect() as second:
            second.execute(text("INSERT INTO words VALUES ('coral')"))  # it has the write lock
            second.rollback()
        disk.go.set()
        first.result(PATIENCE_S)


def test_reading_and_rolling_back_flush_nothing(engine: Engine, disk: Disk) -> None:
    assert words(engine) == []
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO words VALUES ('coral')"))
        connection.rollback()
    assert disk.flushed == []


def test_relaxed_flushes_nothing(disk: Disk, database: Path) -> None:
    engine = create_engine(f"sqlite:///{database}?plugin=atoll&durability=relaxed")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT)"))
    assert disk.flushed == []
    engine.dispose()


def test_any_other_durability_is_refused() -> None:
    with pytest.raises(ValueError, match="durability=some in the URL of a database: expected full or relaxed"):
        create_engine("sqlite:///x.db?plugin=atoll&durability=some")


def test_a_commit_that_cannot_be_flushed_is_not_a_success_and_nothing_is_written_after_it(engine: Engine, disk: Disk) -> None:
    disk.go.clear()
    disk.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(write, engine, "anemone")
        assert disk.begun.acquire(timeout=PATIENCE_S)
        others = [pool.submit(write, engine, f"coral-{number}") for number in range(3)]
        _await(lambda: len(words(engine)) == 4)
        disk.go.set()
        for each in (first, *others):
            _refused(each)
    disk.failure = None
    before = words(engine)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        write(engine, "dulse")
    assert words(engine) == before, "a commit that can't be made durable must not be written"
    assert disk.flushed == []


def _refused(write: Future[None]) -> None:
    with pytest.raises(OperationalError, match="disk I/O error: commits can't be flushed to the disk: Input/output error"):
        write.result(PATIENCE_S)


def test_the_next_process_brings_what_was_left_into_the_database_before_it_writes(
    engine: Engine, disk: Disk, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed flush the content of the disk is unknown: the next process begins another log."""
    disk.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(OperationalError):
        write(engine, "anemone")
    disk.failure = None
    monkeypatch.setattr(sqlite, "_group_flushes", {})  # as in another process
    successor = create_engine(f"sqlite:///{database}?plugin=atoll")
    with successor.connect():
        assert disk.log.stat().st_size == 0
    assert b"anemone" in database.read_bytes()
    write(successor, "coral")
    assert disk.holds("coral")
    successor.dispose()


def test_the_log_that_is_flushed_is_the_one_that_is_written(engine: Engine, disk: Disk) -> None:
    """SQLite removes the log with the last connection, and creates another."""
    write(engine, "anemone")
    first = disk.files[-1]
    keeper = os.open(disk.log, os.O_RDONLY)  # so that its inode number is not reused
    engine.dispose()
    assert not disk.log.exists()
    write(engine, "coral")
    assert disk.files[-1] == disk.log.stat().st_ino != first
    assert disk.holds("coral")
    os.close(keeper)


def test_a_commit_whose_log_was_begun_anew_is_in_the_database(engine: Engine, disk: Disk, database: Path) -> None:
    """A checkpoint comes between a commit and its flush, and another transaction overwrites the log."""
    disk.go.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(write, engine, "anemone")
        assert disk.begun.acquire(timeout=PATIENCE_S)
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
            other.execute("INSERT INTO words VALUES ('coral')")
        assert b"anemone" in database.read_bytes()
        disk.go.set()
        first.result(PATIENCE_S)
    assert words(engine) == ["anemone", "coral"]


def test_statements_outside_transactions_are_flushed_by_sqlite_itself(engine: Engine, disk: Disk) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("INSERT INTO words VALUES ('anemone')"))
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    assert words(engine) == ["anemone"]


def test_a_database_in_memory_is_not_flushed(disk: Disk) -> None:
    engine = create_engine("sqlite:///:memory:?plugin=atoll")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT)"))
    assert disk.flushed == []
    engine.dispose()


def test_many_threads_lose_nothing_and_share_flushes(engine: Engine, disk: Disk) -> None:
    with ThreadPoolExecutor(16) as pool:
        for each in [pool.submit(write, engine, f"w{number:02}") for number in range(96)]:
            each.result(PATIENCE_S)
    assert words(engine) == [f"w{number:02}" for number in range(96)]
    assert all(disk.holds(f"w{number:02}") for number in range(96))
    assert len(disk.flushed) < 96


def _await(holds: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(int(PATIENCE_S * 200)):
        if holds():
            return
        tick.wait(0.005)
    raise AssertionError("it does not come to hold")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later warn of a fork beside threads
def test_process_that_forks_during_a_flush_leaves_a_child_that_can_write(engine: Engine, disk: Disk, database: Path) -> None:
    disk.go.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(write, engine, "anemone")
        assert disk.begun.acquire(timeout=PATIENCE_S)
        second = pool.submit(write, engine, "coral")  # waits for the flush
        _await(lambda: len(words(engine)) == 2)
        assert _in_child(lambda: _write_anew(database, "w01")) == 0
        disk.go.set()
        first.result(PATIENCE_S)
        second.result(PATIENCE_S)
    assert words(engine) == ["anemone", "coral", "w01"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_process_that_forks_while_others_write_leaves_a_child_that_can_lock(database: Path) -> None:
    """Only the thread that forks exists in the child: nobody else can hold, or release, a lock there."""
    lock, held, done = sqlite.write_lock(str(database)), threading.Event(), threading.Event()

    def hold() -> None:
        lock.acquire()
        held.set()
        done.wait(PATIENCE_S)
        lock.release()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert held.wait(PATIENCE_S)
        assert _in_child(lambda: sqlite.write_lock(str(database)).acquire()) == 0
        done.set()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_thread_that_forks_keeps_its_lock(database: Path) -> None:
    lock = sqlite.write_lock(str(database))
    lock.acquire()
    assert _in_child(lock.acquire) == 1, "it would wait for itself"
    assert _in_child(lock.release) == 0
    lock.release()


def _write_anew(database: Path, word: str) -> None:
    os.fdatasync = os.fsync
    engine = create_engine(f"sqlite:///{database}?plugin=atoll")
    write(engine, word)


def _in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked process, and return the exit status; a process that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE_S
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])
