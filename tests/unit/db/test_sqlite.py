"""The SQLite plugin: readers never wait, writers queue, and none of them gets "database is locked"."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import Engine, column, create_engine, event, insert, literal, select, table, text, update
from sqlalchemy.exc import OperationalError

ACCOUNTS = table("accounts", column("id"), column("balance"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/x.db?plugin=atoll"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER)"))
        connection.execute(insert(ACCOUNTS).values(id=1, balance=0))
    yield engine
    engine.dispose()


def balance(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(ACCOUNTS.c.balance)).scalar_one())


def test_reader_does_not_wait_for_writer(engine: Engine) -> None:
    with engine.connect() as writer:
        writer.execute(update(ACCOUNTS).values(balance=5))
        assert balance(engine) == 0
        writer.commit()
    assert balance(engine) == 5


def test_writer_does_not_wait_for_reader(engine: Engine) -> None:
    with engine.connect() as reader:
        assert reader.execute(select(ACCOUNTS.c.balance)).scalar_one() == 0
        with engine.begin() as writer:
            writer.execute(update(ACCOUNTS).values(balance=5))
        assert reader.execute(select(ACCOUNTS.c.balance)).scalar_one() == 0, "a reader keeps its snapshot"


def test_transaction_that_read_may_still_write_after_another_commit(engine: Engine) -> None:
    with engine.connect() as late:
        late.execute(select(ACCOUNTS.c.balance)).all()
        with engine.begin() as other:
            other.execute(update(ACCOUNTS).values(balance=5))
        late.execute(update(ACCOUNTS).values(balance=ACCOUNTS.c.balance + 1))
        late.commit()
    assert balance(engine) == 6


def test_stock_sqlite_would_fail_there(engine: Engine, tmp_path: Path) -> None:
    """The fault that the plugin cures exists: otherwise the test above could not fail."""
    late = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    late.execute("BEGIN")
    late.execute("SELECT * FROM accounts").fetchall()
    with engine.begin() as other:
        other.execute(update(ACCOUNTS).values(balance=5))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        late.execute("UPDATE accounts SET balance = 6")
    late.close()


def test_select_for_update_takes_the_write_lock(engine: Engine) -> None:
    locked = threading.Event()
    done = threading.Event()

    def increment() -> None:
        with engine.begin() as connection:
            connection.execute(select(ACCOUNTS.c.balance).with_for_update()).scalar_one()
            locked.set()
            done.wait(0.05)
            connection.execute(update(ACCOUNTS).values(balance=ACCOUNTS.c.balance + 1))

    with ThreadPoolExecutor() as pool:
        first = pool.submit(increment)
        locked.wait()
        with engine.begin() as second:
            assert second.execute(select(ACCOUNTS.c.balance).with_for_update()).scalar_one() == 1
        first.result()


def test_savepoint_rolls_back_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(select(ACCOUNTS.c.balance)).all()
        with pytest.raises(ZeroDivisionError), connection.begin_nested():
            connection.execute(update(ACCOUNTS).values(balance=99))
            raise ZeroDivisionError
        connection.execute(insert(ACCOUNTS).values(id=2, balance=7))
    with engine.connect() as connection:
        assert connection.execute(select(ACCOUNTS.c.balance).order_by(ACCOUNTS.c.id)).scalars().all() == [0, 7]


def test_failed_statement_lets_the_next_writer_in(engine: Engine) -> None:
    with pytest.raises(OperationalError, match="nosuch"), engine.begin() as connection:
        connection.execute(text("UPDATE nosuch SET x = 1"))
    with engine.begin() as connection:
        connection.execute(update(ACCOUNTS).values(balance=3))
    assert balance(engine) == 3


def test_abandoned_connection_lets_the_next_writer_in(engine: Engine) -> None:
    connection = engine.connect()
    connection.execute(update(ACCOUNTS).values(balance=99))
    connection.close()
    with engine.begin() as other:
        other.execute(update(ACCOUNTS).values(balance=4))
    assert balance(engine) == 4


def test_thread_that_would_wait_for_itself_is_told(engine: Engine) -> None:
    with engine.begin() as outer:
        outer.execute(update(ACCOUNTS).values(balance=1))
        with pytest.raises(sqlite3.OperationalError, match="wait for itself"), engine.begin() as inner:
            inner.execute(update(ACCOUNTS).values(balance=2))
    assert balance(engine) == 1


def test_many_readers_run_at_the_same_time(engine: Engine) -> None:
    """Eight readers are in their transactions at the same time: the barrier passes only if none waits for another."""
    barrier = threading.Barrier(8, timeout=10)

    def read(_index: int) -> None:
        with engine.connect() as connection:
            connection.execute(select(ACCOUNTS.c.balance)).all()
            barrier.wait()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


def test_autocommit_is_left_alone(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(ACCOUNTS).values(balance=8))
        assert balance(engine) == 8


def test_with_oslo_db_reads_take_no_lock_and_writes_do(engine: Engine, url: str) -> None:
    manager = enginefacade.transaction_context()
    manager.configure(connection=url)
    statements: list[str] = []

    @enginefacade.transaction_context_provider
    class Context:
        pass

    with manager.reader.using(Context()) as session:
        raw = session.connection().connection.dbapi_connection
        raw.set_trace_callback(statements.append)
        session.execute(select(literal(1))).all()
        assert not any("IMMEDIATE" in statement for statement in statements)
    with manager.writer.using(Context()) as session:
        session.execute(update(ACCOUNTS).values(balance=5))
        assert session.connection().connection.dbapi_connection.in_transaction
    assert balance(engine) == 5
    manager.writer.get_engine().dispose()


WRITER = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from sqlalchemy import create_engine, text
    engine = create_engine(sys.argv[1])
    def add(_):
        with engine.begin() as connection:
            connection.execute(text("SELECT balance FROM accounts")).all()
            connection.execute(text("UPDATE accounts SET balance = balance + 1"))
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(400)))
    engine.dispose()
"""


def test_two_processes_of_many_threads_lose_no_write(engine: Engine, url: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), url]
    pipe = subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    reads = 0
    outputs: list[tuple[str, str]] = []
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(writer.communicate, "go\n") for writer in writers]
        while not all(future.done() for future in running):
            balance(engine)
            reads += 1
            time.sleep(0.001)
        outputs = [future.result() for future in running]
    assert [(writer.returncode, errors) for writer, (_, errors) in zip(writers, outputs, strict=True)] == [(0, ""), (0, "")]
    assert balance(engine) == 800
    assert reads > 0


def test_forked_child_opens_its_own_connection(engine: Engine) -> None:
    opened: list[int] = []
    event.listen(engine, "connect", lambda *_: opened.append(os.getpid()))
    engine.dispose()
    with engine.begin() as connection:
        connection.execute(update(ACCOUNTS).values(balance=2))
    assert opened == [os.getpid()]
