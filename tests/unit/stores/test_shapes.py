"""Tables of every shape, and changes of them, over two sites."""

import pytest
import sqlalchemy as sa

from atoll.stores.maintenance import verify
from atoll.stores.store import open_store
from atoll.stores.url import parse


@pytest.fixture
def sites(site):
    """Two sites that learn of each other only when told."""
    engines = [site("paris"), site("lyon")]
    for engine in engines:
        follower = open_store(parse(engine.url)).follower
        follower.stop()
        follower.join()
    return engines


def tell(sites):
    for engine in sites:
        open_store(parse(engine.url)).catch_up()


def run(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def rows(engine, query):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def alike(sites, query):
    tell(sites)
    one, two = (rows(engine, query) for engine in sites)
    assert one == two
    assert [verify(open_store(parse(engine.url))) for engine in sites] == [[], []]
    return one


COLLIDING = {
    "unique": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT UNIQUE)", "a", "a"),
    "nocase": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE UNIQUE)", "Name", "nAME"),
    "rtrim": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT COLLATE RTRIM UNIQUE)", "a", "a  "),
    "expression": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); CREATE UNIQUE INDEX i ON t (lower(s))", "Ä", "Ä"),
    "partial": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); CREATE UNIQUE INDEX i ON t (s) WHERE s <> 'b'", "a", "a"),
    "text key": ("CREATE TABLE t (s TEXT COLLATE NOCASE PRIMARY KEY, id)", "a", "A"),
    "without rowid": ("CREATE TABLE t (s TEXT PRIMARY KEY, id) WITHOUT ROWID", "a", "a"),
    "number and text": ("CREATE TABLE t (id INTEGER PRIMARY KEY, s NUMERIC UNIQUE)", "1", "1.0"),
    "no key": ("CREATE TABLE t (s TEXT UNIQUE)", "a", "a"),
}


@pytest.mark.parametrize("case", COLLIDING)
def test_one_unique_value_at_two_sites(sites, case):
    create, one, two = COLLIDING[case]
    run(sites[0], *create.split(";"))
    tell(sites)
    run(sites[0], f"INSERT INTO t (s) VALUES ('{one}')")
    with pytest.raises((sa.exc.OperationalError, sa.exc.IntegrityError)):
        run(sites[1], f"INSERT INTO t (s) VALUES ('{two}')")
    run(sites[1], "INSERT INTO t (s) VALUES ('other')")
    assert len(alike(sites, "SELECT s FROM t ORDER BY s")) == 2


def test_a_table_without_primary_key(sites):
    run(sites[0], "CREATE TABLE t (a, b UNIQUE)", "INSERT INTO t VALUES (1, 'x'), (1, 'y')")
    tell(sites)
    run(sites[0], "UPDATE t SET a = 2 WHERE b = 'x'")
    run(sites[1], "UPDATE t SET a = 3 WHERE b = 'y'", "INSERT INTO t VALUES (4, 'z')")
    run(sites[0], "INSERT INTO t VALUES (5, 'w')", "DELETE FROM t WHERE b = 'x'")
    assert alike(sites, "SELECT * FROM t ORDER BY b") == [(5, "w"), (3, "y"), (4, "z")]


def test_a_change_of_the_schema_misses_no_row(sites):
    """A migration copies a table; a row that another site inserts meanwhile must be copied, too."""
    run(sites[0], "CREATE TABLE t (id INTEGER PRIMARY KEY, n)", "INSERT INTO t VALUES (1, 1)")
    tell(sites)
    run(sites[1], "INSERT INTO t VALUES (2, 2)")
    with pytest.raises(sa.exc.OperationalError, match="deadlock"):
        run(sites[0], "CREATE TABLE new (id INTEGER PRIMARY KEY, n, m)", "INSERT INTO new SELECT id, n, 0 FROM t", "DROP TABLE t")
    run(sites[0], "CREATE TABLE new (id INTEGER PRIMARY KEY, n, m)", "INSERT INTO new SELECT id, n, 0 FROM t", "DROP TABLE t")
    with pytest.raises(sa.exc.OperationalError):
        run(sites[1], "INSERT INTO t VALUES (3, 3)")
    assert alike(sites, "SELECT * FROM new ORDER BY id") == [(1, 1, 0), (2, 2, 0)]


def test_a_change_of_the_schema_that_is_undone(sites):
    run(sites[0], "CREATE TABLE t (id INTEGER PRIMARY KEY, n)")
    with sites[0].connect() as connection:
        connection.exec_driver_sql("ALTER TABLE t ADD COLUMN m")
        connection.exec_driver_sql("INSERT INTO t (n, m) VALUES (1, 1)")
        connection.rollback()
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (2)")
        connection.exec_driver_sql("SAVEPOINT a")
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (3)")
        connection.exec_driver_sql("SAVEPOINT b")
        connection.exec_driver_sql("CREATE TABLE u (x)")
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (4)")
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT b")
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (5)")
        connection.exec_driver_sql("RELEASE SAVEPOINT b")
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT a")
        connection.exec_driver_sql("CREATE TABLE v (x)")
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (6)")
        connection.exec_driver_sql("RELEASE SAVEPOINT a")
        connection.commit()
    assert alike(sites, "SELECT n FROM t ORDER BY n") == [(2,), (6,)]
    assert alike(sites, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'atoll%' ORDER BY name") == [("t",), ("v",)]


def test_upserts_and_replacements(sites):
    run(sites[0], "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT UNIQUE, n)", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)")
    tell(sites)
    run(sites[1], "INSERT INTO t (s, n) VALUES ('a', 5) ON CONFLICT (s) DO UPDATE SET n = n + excluded.n")
    run(sites[1], "REPLACE INTO t VALUES (3, 'b', 9)", "DELETE FROM t WHERE s = 'none'")
    assert alike(sites, "SELECT * FROM t ORDER BY id") == [(1, "a", 6), (3, "b", 9)]


def test_effects_of_triggers_are_in_the_log_once(sites):
    run(
        sites[0],
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n)",
        "CREATE TABLE log (id INTEGER PRIMARY KEY, n)",
        "CREATE TRIGGER note AFTER INSERT ON t BEGIN INSERT INTO log (n) VALUES (NEW.n); END",
    )
    tell(sites)
    run(sites[1], "INSERT INTO t (n) VALUES (1)")
    run(sites[0], "INSERT INTO t (n) VALUES (2)")
    assert alike(sites, "SELECT n FROM log ORDER BY n") == [(1,), (2,)]
