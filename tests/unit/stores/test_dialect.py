"""The dialect as services use it, on one and on two sites."""

import datetime
import threading
import time
import tomllib
from pathlib import Path

import pytest
import sqlalchemy as sa
from oslo_db import exception
from oslo_db.sqlalchemy import enginefacade

from atoll.stores import store
from atoll.stores.store import close_stores

META = sa.MetaData()
T = sa.Table("t", META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer), sa.Column("s", sa.String, unique=True))


def rows(engine):
    if not sa.inspect(engine).has_table("t"):
        return None
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(T.c.n, T.c.s).order_by(T.c.n))]


def eventually(check, expected):
    until = time.monotonic() + 10
    while (found := check()) != expected and time.monotonic() < until:
        time.sleep(0.01)
    assert found == expected


def test_entry_points_are_the_dialect():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["sqlalchemy.dialects"]
    assert set(points) == {"redis", "rediss", "redis.sentinel", "rediss.sentinel", "sqlite.redis", "sqlite.rediss"}
    assert set(points.values()) == {"atoll.stores.dialect:RedisDialect"}


def test_two_sites_share_a_database(site):
    paris, lyon = site("paris"), site("lyon")
    META.create_all(paris)
    with paris.begin() as connection:
        connection.execute(T.insert(), [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}])
    eventually(lambda: sa.inspect(lyon).get_table_names(), ["t"])
    eventually(lambda: rows(lyon), [(1, "a"), (2, "b")])
    with lyon.begin() as connection:
        connection.execute(T.update().where(T.c.n == 1).values(s="z"))
        connection.execute(T.delete().where(T.c.n == 2))
    assert rows(lyon) == [(1, "z")]
    eventually(lambda: rows(paris), [(1, "z")])


def test_a_new_connection_reads_while_a_commit_waits_for_redis(site):
    engine = site()
    META.create_all(engine)
    using = next(iter(store._stores.values())).group.using
    held, go_on = threading.Event(), threading.Event()

    def commit_that_waits():
        with using:
            held.set()
            go_on.wait(30)

    waiting = threading.Thread(target=commit_that_waits)
    waiting.start()
    held.wait()
    engine.dispose()  # as after an error, so that the next connection is new
    read = threading.Thread(target=rows, args=(engine,), daemon=True)
    read.start()
    read.join(5)
    ended = not read.is_alive()
    go_on.set()
    waiting.join()
    assert ended


def test_rollback_and_savepoints(site):
    engine = site()
    META.create_all(engine)
    with engine.connect() as connection:
        connection.execute(T.insert().values(n=1))
        connection.rollback()
        connection.execute(T.insert().values(n=2))
        with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(T.insert().values(n=3, s="a"))
            connection.execute(T.insert().values(n=4, s="a"))
        connection.commit()
    assert rows(engine) == [(2, None)]


def test_ids_and_returning(site):
    paris, lyon = site("paris", reads="fresh"), site("lyon", reads="fresh")
    META.create_all(paris)
    ids = []
    for engine in (paris, lyon, paris, lyon):
        with engine.begin() as connection:
            ids.append(connection.execute(T.insert().values(n=1)).inserted_primary_key[0])
            ids += connection.execute(T.insert().returning(T.c.id), [{"n": 2}, {"n": 3}]).scalars().all()
    assert ids == sorted(ids)
    assert [id % 64 for id in ids] == [0, 0, 0, 1, 1, 1] * 2


def test_fresh_reads_see_the_newest(site):
    paris, lyon = site("paris"), site("lyon", reads="fresh")
    META.create_all(paris)
    assert rows(lyon) == []
    with paris.begin() as connection:
        connection.execute(T.insert().values(n=1))
    assert rows(lyon) == [(1, None)]


def test_a_lost_race_is_a_deadlock_for_oslo_db(server, log, tmp_path, site):
    site("lyon")
    contexts = []
    for name in ("paris", "lyon"):
        contexts.append(enginefacade.transaction_context())
        contexts[-1].configure(connection=server.url(tmp_path / f"{name}.db", log, name))
    paris, lyon = (context.writer.get_engine() for context in contexts)
    META.create_all(paris)
    with paris.begin() as connection:
        connection.execute(T.insert().values(id=1, n=1))
    eventually(lambda: rows(lyon), [(1, None)])
    with pytest.raises(exception.DBDeadlock), paris.begin() as one:
        assert one.execute(sa.select(T.c.n).where(T.c.id == 1).with_for_update()).scalar() == 1
        with lyon.begin() as two:
            two.execute(T.update().where(T.c.id == 1).values(n=5))
        one.execute(T.update().where(T.c.id == 1).values(n=2))
    assert rows(paris) == [(5, None)]
    with pytest.raises(exception.DBDuplicateEntry), paris.begin() as connection:
        connection.execute(T.insert(), [{"s": "x"}, {"s": "x"}])
    for engine in (paris, lyon):
        engine.dispose()


def test_oslo_db_treats_it_as_sqlite(server, log, tmp_path):
    url = server.url(tmp_path / "paris.db", log).replace("redis://", "sqlite+redis://")
    context = enginefacade.transaction_context()
    context.configure(connection=url, sqlite_fk=True)
    engine = context.writer.get_engine()
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent (id))"))
    with pytest.raises(exception.DBReferenceError), engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO child (p) VALUES (7)"))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1 WHERE 'abc' REGEXP '^a'")).scalar() == 1
    engine.dispose()
    close_stores()


def test_an_increment_is_replayed(site):
    paris, lyon = site("paris"), site("lyon")
    META.create_all(paris)
    with paris.begin() as connection:
        connection.execute(T.insert().values(id=1, n=1))
    eventually(lambda: rows(lyon), [(1, None)])
    with paris.begin() as one:
        one.execute(T.update().where(T.c.id == 1).values(n=T.c.n + 10))
        with lyon.begin() as two:
            two.execute(T.update().where(T.c.id == 1).values(n=T.c.n + 100))
    assert rows(paris) == [(111, None)]
    eventually(lambda: rows(lyon), [(111, None)])


def test_changes_of_the_schema_reach_other_sites(site):
    paris, lyon = site("paris"), site("lyon")
    META.create_all(paris)
    with paris.begin() as connection:
        connection.execute(T.insert().values(n=1))
        connection.execute(sa.text("ALTER TABLE t RENAME TO old"))
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s VARCHAR, extra TEXT)"))
        connection.execute(sa.text("INSERT INTO t (id, n) SELECT id, n + 1 FROM old"))
        connection.execute(sa.text("DROP TABLE old"))
    eventually(lambda: sa.inspect(lyon).has_table("t") and [c["name"] for c in sa.inspect(lyon).get_columns("t")][-1], "extra")
    assert rows(lyon) == rows(paris) == [(2, None)]
    with lyon.begin() as connection:
        connection.execute(T.insert().values(n=7))
    eventually(lambda: rows(paris), [(2, None), (7, None)])


def test_dates_as_the_sqlite3_module_binds_them(site):
    engine = site()
    META.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t (s) VALUES (?)", (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),))
        with pytest.raises(sa.exc.ProgrammingError, match="object can't be a parameter"):
            connection.exec_driver_sql("INSERT INTO t (s) VALUES (?)", (object(),))
    assert rows(engine) == [(None, "2026-01-02 03:04:05+00:00")]


def test_autocommit(site):
    engine = site()
    META.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(T.insert().values(n=1))
        assert rows(engine) == [(1, None)]


def test_foreign_keys_between_sites(site):
    meta = sa.MetaData()
    parent = sa.Table("parent", meta, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table("child", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("p", sa.ForeignKey("parent.id")))
    paris, lyon = site("paris"), site("lyon")
    for engine in (paris, lyon):
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    meta.create_all(paris)
    with paris.begin() as connection:
        connection.execute(parent.insert(), [{"id": 1}, {"id": 2}])
    eventually(
        lambda: (
            lyon.connect().execute(sa.select(sa.func.count()).select_from(parent)).scalar() if sa.inspect(lyon).has_table("parent") else 0
        ),
        2,
    )
    with pytest.raises((sa.exc.OperationalError, sa.exc.IntegrityError)), paris.begin() as one:
        one.execute(child.insert().values(p=1))
        with lyon.begin() as two:
            two.execute(parent.delete().where(parent.c.id == 1))
    with pytest.raises(sa.exc.OperationalError, match="deadlock"), paris.begin() as one:
        one.execute(parent.delete().where(parent.c.id == 2))
        with lyon.begin() as two:
            two.execute(child.insert().values(p=2))
    with paris.connect() as connection:
        assert connection.execute(sa.select(child.c.p)).scalars().all() == [2]
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
