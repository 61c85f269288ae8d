import apsw
import pytest

from atoll.stores.statement import StatementKind, kind_of, tables_of


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1", StatementKind.READ),
        ("  select 1", StatementKind.READ),
        ("-- a comment\nSELECT 1", StatementKind.READ),
        ("/* a hint */ UPDATE t SET x = 1", StatementKind.WRITE),
        ("SELECT x FROM t /* FOR UPDATE */", StatementKind.LOCK),
        ("WITH a AS (SELECT 1) SELECT * FROM a", StatementKind.READ),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", StatementKind.WRITE),
        ("INSERT INTO t VALUES (1)", StatementKind.WRITE),
        ("ROLLBACK TO SAVEPOINT s", StatementKind.SAVEPOINT),
        ("ROLLBACK", StatementKind.ROLLBACK),
        ("COMMIT", StatementKind.COMMIT),
        ("BEGIN IMMEDIATE", StatementKind.BEGIN),
        ("PRAGMA foreign_keys=ON", StatementKind.SETTING),
        ("CREATE TABLE t (x)", StatementKind.SCHEMA),
        ("ALTER TABLE t ADD y", StatementKind.SCHEMA),
        ("", StatementKind.BEGIN),
    ],
)
def test_kinds(sql, kind):
    assert kind_of(sql) is kind


def test_tables_that_are_read():
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE a (x); CREATE TABLE b (x); CREATE VIEW v AS SELECT x FROM b")
    assert tables_of(db, "SELECT a.x FROM a, v") >= {"a", "b"}
    assert tables_of(db, "UPDATE a SET x = (SELECT max(x) FROM b)") >= {"b"}
    assert tables_of(db, "nonsense") == frozenset()
