"""A forked process and the stores of its parent."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from killed_writer import META, T

from atoll.stores import forks
from atoll.stores.store import open_store
from atoll.stores.url import parse

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_child(function: Callable[[], object]) -> str:
    """Return the result of a function in a forked process, or the error's text."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = str(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return answer


def insert(engine: sa.Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(T.insert().values(name=name))


def names(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(sa.select(T.c.name)).scalars())


@pytest.fixture
def paris(site) -> sa.Engine:
    engine = site("paris")
    META.create_all(engine)
    return engine


def test_a_lock_that_the_parent_releases_is_free_while_the_child_lives(paris):
    replica = open_store(parse(paris.url)).replica
    held = replica.lock("test")
    (ready, is_ready), (end, ending) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ending)
        os.write(is_ready, b".")
        os.read(end, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        forks.release(held)
        forks.release(replica.lock("test", wait=False))
    finally:
        for descriptor in (ready, is_ready, end, ending):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_a_child_closes_its_parents_files(paris):
    insert(paris, "first")
    path = str(parse(paris.url).replica)

    def files() -> list[str]:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [link for link in links if link.startswith(path)]

    assert files()
    assert in_child(files) == "[]"


def test_a_child_has_connections_of_its_own(paris):
    insert(paris, "parent")
    answer = in_child(lambda: insert(paris, "child"))
    assert f"{parse(paris.url).replica}: the process's parent opened this connection: open one after the fork\n" in answer
    assert answer.startswith("OperationalError: ")
    engine = sa.create_engine(paris.url, pool_pre_ping=True)
    insert(engine, "parent again")
    assert in_child(lambda: insert(engine, "child") or names(engine)) == "['child', 'parent', 'parent again']"
    assert names(engine) == ["child", "parent", "parent again"]
    engine.dispose()


def test_a_fork_waits_for_a_thread_that_writes(paris):
    store = open_store(parse(paris.url))
    began, end = threading.Event(), threading.Event()

    def write() -> None:
        with paris.begin() as connection:
            connection.execute(T.insert().values(name="thread"))
            began.set()
            end.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    began.wait(10)
    ending = threading.Timer(0.3, end.set)
    ending.start()
    paris.pool = paris.pool.recreate()
    assert in_child(lambda: (insert(paris, "child"), names(paris))[1]) == "['child', 'thread']"
    thread.join()
    ending.join()
    insert(paris, "parent")  # what was paused goes on
    store.catch_up()
    assert names(paris) == ["child", "parent", "thread"]


def test_a_fork_within_a_transaction_that_writes(paris):
    path = parse(paris.url).replica
    with paris.begin() as connection:
        connection.execute(T.insert().values(name="parent"))
        answer = in_child(lambda: open_store(parse(paris.url)))
    assert answer == f"StoreError: {path}: this process was forked during a transaction that writes: fork after the transaction's end"
    assert names(paris) == ["parent"]
