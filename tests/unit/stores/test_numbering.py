import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.stores.numbering import Series, number
from atoll.stores.shape import of_table


@pytest.fixture
def db():
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n, s UNIQUE); CREATE TABLE keyed (id TEXT PRIMARY KEY, n)")
    return connection


def insert(db, sql, parameters, series):
    return db.execute(*number(db, sql, parameters, lambda table: of_table(db, table), series)).fetchall()


@given(st.integers(0, 10**9), st.integers(1, 1000), st.data())
def test_series_are_disjoint_and_grow(top, stride, data):
    slots = data.draw(st.sets(st.integers(0, stride - 1), min_size=1, max_size=4))
    ids = [Series(slot, stride).after(top) for slot in slots]
    assert len(set(ids)) == len(slots)
    assert all(id > top and id % stride in slots for id in ids)


def test_forms_of_sqlalchemy(db):
    series = Series(3, 64)
    insert(db, "INSERT INTO t (n) VALUES (?)", (1,), series)
    insert(db, 'INSERT INTO "t" ("n", s) VALUES (?, ?), (?, ?)', (2, "a", 3, "b"), series)
    assert insert(db, "INSERT INTO t (n) VALUES (?) RETURNING id, n", (4,), series) == [(259, 4)]
    insert(db, "INSERT INTO t (n, s) VALUES (?, ?), (?, ?) ON CONFLICT (s) DO UPDATE SET n = excluded.n", (9, "a", 5, "c"), series)
    assert db.execute("SELECT id, n FROM t ORDER BY id").fetchall() == [(67, 1), (131, 9), (195, 3), (259, 4), (387, 5)]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("INSERT INTO t (id, n) VALUES (?, ?)", (5, 1)),
        ('INSERT INTO t ("id", n) VALUES (?, ?)', (5, 1)),
        ("INSERT INTO t (n) VALUES ('a), (b RETURNING ')", ()),
        ("INSERT INTO t (n) SELECT 1", ()),
        ("INSERT INTO t DEFAULT VALUES", ()),
        ("INSERT INTO keyed (n) VALUES (?)", (1,)),
        ("UPDATE t SET n = ?", (1,)),
    ],
)
def test_others_are_left_alone(db, sql, parameters):
    assert number(db, sql, parameters, lambda table: of_table(db, table), Series(3, 64)) == (sql, parameters)
