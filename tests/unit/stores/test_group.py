"""Group commit: who shares a round trip, who sees what, and what becomes of the slow and the failed."""

import threading
import time
from collections import Counter

import apsw
import pytest
import sqlalchemy as sa

from atoll.bench.stores.delay import delayed
from atoll.stores import group
from atoll.stores.fair_lock import FairLock
from atoll.stores.store import close_stores, open_store
from atoll.stores.url import parse

META = sa.MetaData()
T = sa.Table("t", META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))


def begun(engine, rows=32):
    META.create_all(engine)
    with engine.begin() as connection:
        connection.execute(T.insert(), [{"id": n, "n": 0} for n in range(rows)])
    return open_store(parse(engine.url))


def numbers(engine, *ids):
    with engine.connect() as connection:
        found = dict(connection.execute(sa.select(T.c.id, T.c.n)).all())
    return [found[id] for id in ids]


def add(connection, id, n=1):
    connection.execute(T.update().where(T.c.id == id).values(n=T.c.n + n))


def together(count, work):
    """Run `work(place)` in threads; return their errors."""
    errors = []

    def run(place):
        try:
            work(place)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def commit_while_another_waits(engine, store, first, second):
    """Run `first` and commit it while `second` is already waiting, so that both are in one group."""
    entered, errors = threading.Event(), []

    def follow():
        entered.wait()
        try:
            with engine.begin() as connection:
                second(connection)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    with engine.begin() as connection:
        first(connection)
        entered.set()
        while not store.group.waiting:
            time.sleep(0.001)
    thread.join()
    return errors


@pytest.fixture
def far(server, log, tmp_path):
    """The engine of a site whose round trip to Redis is 50 ms."""
    with delayed(server.socket, tmp_path / "far.sock") as distance:
        distance.set(50)
        url = server.url(tmp_path / "far.db", log, "far").replace(str(server.socket), str(tmp_path / "far.sock"))
        engine = sa.create_engine(url, pool_size=32)
        yield engine
        engine.dispose()
        close_stores()


def test_waiting_writers_share_a_round_trip(far):
    store = begun(far)
    before = store.metrics.groups

    def work(place):
        for _ in range(5):
            with far.begin() as connection:
                add(connection, place)

    began = time.monotonic()
    assert together(16, work) == []
    assert numbers(far, *range(16)) == [5] * 16
    assert store.metrics.groups - before <= 40  # of 80 transactions; about 7 on an idle machine
    assert time.monotonic() - began < 80 * 0.05 * 0.9  # one after the other, they need 4 s


def test_a_far_site_is_not_starved_by_a_near_one(far, site):
    near = site("near")
    begun(near)
    open_store(parse(far.url)).catch_up()
    stop, tries = threading.Event(), []

    def increment(engine):
        with engine.begin() as connection:
            old = connection.execute(sa.select(T.c.n).where(T.c.id == 0).with_for_update()).scalar()
            connection.execute(T.update().where(T.c.id == 0).values(n=old + 1))

    def until_it_succeeds(engine):
        for tried in range(1, 1000):
            try:
                increment(engine)
            except sa.exc.OperationalError as error:
                if "deadlock" not in str(error):
                    raise
            else:
                return tried
        raise AssertionError("starved")

    def work_near():
        count = 0
        while not stop.is_set():
            until_it_succeeds(near)
            count += 1
        tries.append(count)

    thread = threading.Thread(target=work_near)
    thread.start()
    try:
        found = [until_it_succeeds(far) for _ in range(4)]
    finally:
        stop.set()
        thread.join()
    assert max(found) <= 6, found  # 2 on a machine that keeps up
    open_store(parse(near.url)).catch_up()
    assert numbers(near, 0) == [tries[0] + 4]


def test_one_writer_costs_one_round_trip(far):
    store = begun(far)
    commands = Counter()
    client = store.log._client
    execute = client.execute_command
    client.execute_command = lambda *arguments, **options: (
        commands.update([(threading.current_thread() is threading.main_thread(), arguments[0])]),
        execute(*arguments, **options),
    )[1]
    for _ in range(3):
        with far.begin() as connection:
            connection.execute(sa.select(T)).all()
            for id in range(5):
                add(connection, id)
    numbers(far, 1)
    assert {command: count for (main, command), count in commands.items() if main} == {"EVALSHA": 3}


def test_a_writer_sees_the_group_and_readers_do_not(site):
    engine = site()
    store = begun(engine)
    seen = []

    def second(connection):
        add(connection, 1)
        seen.append(connection.execute(sa.select(T.c.n).where(T.c.id == 1)).scalar())
        seen.append(numbers(engine, 1))

    before = store.metrics.groups
    assert commit_while_another_waits(engine, store, lambda connection: add(connection, 1), second) == []
    assert seen == [2, [0]]
    assert numbers(engine, 1) == [2]
    assert store.metrics.groups == before + 1


def test_one_that_rolls_back_leaves_the_group_whole(site):
    engine = site()
    store = begun(engine)

    def second(connection):
        add(connection, 2)
        connection.execute(sa.text("INSERT INTO t (id) VALUES (1)"))

    errors = commit_while_another_waits(engine, store, lambda connection: add(connection, 1), second)
    assert [type(error) for error in errors] == [sa.exc.IntegrityError]
    assert numbers(engine, 1, 2) == [1, 0]


def test_a_violated_constraint_is_reported_when_the_other_row_can_be_read(site):
    engine = site()
    store = begun(engine)
    found, read = [], threading.Event()

    def insert(connection):
        connection.execute(T.insert(), {"id": 99, "n": 5})

    def second():
        try:
            with engine.begin() as connection:
                insert(connection)
        except sa.exc.IntegrityError:
            with engine.connect() as connection:
                found.extend(connection.execute(sa.select(T.c.n).where(T.c.id == 99)).scalars())
        read.set()

    def third():
        with engine.begin() as connection:
            add(connection, 1)
            assert read.wait(60), "it keeps the group open until then"

    threads = [threading.Thread(target=work) for work in (second, third)]
    with engine.begin() as connection:
        insert(connection)
        for number, thread in enumerate(threads, 1):
            thread.start()
            while store.group.waiting < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert found == [5]
    assert numbers(engine, 1) == [1]


def test_one_that_conflicts_fails_alone(site):
    engine, other = site(), site("lyon")
    store = begun(engine)
    open_store(parse(other.url)).catch_up()

    def first(connection):
        add(connection, 1)

    def second(connection):
        old = connection.execute(sa.select(T.c.n).where(T.c.id == 2).with_for_update()).scalar()
        connection.execute(T.update().where(T.c.id == 2).values(n=old + 1))
        with other.begin() as elsewhere:
            add(elsewhere, 2, 10)

    errors = commit_while_another_waits(engine, store, first, second)
    assert ["deadlock" in str(error) for error in errors] == [True]
    assert numbers(engine, 1, 2) == [1, 10]


@pytest.mark.parametrize(("isolation", "failed"), [("galera", 0), ("snapshot", 1), ("serializable", 1)])
def test_a_reader_in_a_group_has_one_place_in_the_order(site, isolation, failed):
    """A reader that sees a writer of its group, and not one of another site that the log put before that: a long fork."""
    engine, other = site(isolation=isolation), site("lyon")
    store = begun(engine)
    open_store(parse(other.url)).catch_up()

    def second(connection):
        query = sa.select(T.c.n).where(T.c.id.in_([1, 2])).order_by(T.c.id).with_for_update()
        assert connection.execute(query).scalars().all() == [1, 0]
        with other.begin() as elsewhere:
            add(elsewhere, 2)

    errors = commit_while_another_waits(engine, store, lambda connection: add(connection, 1), second)
    assert len(errors) == failed
    open_store(parse(other.url)).catch_up()
    assert numbers(other, 1, 2) == [1, 1]


@pytest.mark.parametrize("fails", [False, True], ids=["goes on", "fails"])
def test_a_slow_transaction_is_set_aside(site, monkeypatch, fails):
    monkeypatch.setattr(group, "STALL_S", 0.02)
    engine, other = site(), site("lyon")
    store = begun(engine)
    open_store(parse(other.url)).catch_up()

    def second(connection):
        old = connection.execute(sa.select(T.c.n).where(T.c.id == 1).with_for_update()).scalar()
        connection.execute(T.insert().values(n=old))
        if fails:
            with other.begin() as elsewhere:
                add(elsewhere, 1, 10)
        while not store.metrics.set_aside:
            time.sleep(0.005)
        while not fails and numbers(engine, 1) != [1]:  # the first one is committed though this one is not
            time.sleep(0.005)
        add(connection, 1)

    def first(connection):
        add(connection, 0 if fails else 1)

    errors = commit_while_another_waits(engine, store, first, second)
    if fails:
        assert ["deadlock" in str(error) for error in errors] == [True]
        assert numbers(engine, 0, 1) == [1, 10]
    else:
        assert errors == []
        assert numbers(engine, 1) == [2]
    assert store.metrics.set_aside == 1
    with engine.begin() as connection:
        add(connection, 2)


def test_a_thread_does_not_wait_for_itself(site):
    engine = site()
    begun(engine)
    with engine.begin() as one, engine.connect() as two:
        add(one, 1)
        with pytest.raises(sa.exc.OperationalError, match="would wait for itself"):
            add(two, 2)
        two.rollback()
    assert numbers(engine, 1, 2) == [1, 0]


def test_a_full_disk(site):
    engine = site()
    store = begun(engine)
    pages = store.group.writer.db.pragma("page_count")
    store.group.writer.db.pragma("max_page_count", pages)
    with pytest.raises(sa.exc.OperationalError, match="full"), engine.begin() as connection:
        for _ in range(200):
            connection.execute(sa.text("INSERT INTO t (n) VALUES (:n)"), {"n": "x" * 1000})
    store.group.writer.db.pragma("max_page_count", 2**30)
    with engine.begin() as connection:
        add(connection, 1)
    assert numbers(engine, 1) == [1]
    assert store.log.state(0).head == store.replica.position(store.group.writer.db).n == 3


def test_savepoints_do_not_reach_into_the_group(site):
    engine = site()
    store = begun(engine)

    def second(connection):
        nested = connection.begin_nested()
        add(connection, 2)
        nested.rollback()
        add(connection, 3)

    assert commit_while_another_waits(engine, store, lambda connection: add(connection, 1), second) == []
    assert numbers(engine, 1, 2, 3) == [1, 0, 1]


def test_the_writers_lock_is_fair():
    lock, order = FairLock(), []
    assert lock.acquire(1)
    assert lock.is_mine
    assert not lock.await_company(0.01)

    def wait(place):
        assert lock.acquire(10)
        order.append(place)
        lock.release()

    threads = []
    for place in range(5):
        threads.append(threading.Thread(target=wait, args=(place,)))
        threads[-1].start()
        while lock.waiting <= place:
            time.sleep(0.001)
    assert lock.await_company(0)
    lock.release()
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    assert lock.acquire(1)
    late = []
    thread = threading.Thread(target=lambda: late.append(lock.acquire(0.01)))
    thread.start()
    thread.join()
    assert late == [False]
    lock.release()
    assert lock.acquire(1)


def test_sqlite_has_sessions():
    assert "ENABLE_SESSION" in apsw.compile_options
