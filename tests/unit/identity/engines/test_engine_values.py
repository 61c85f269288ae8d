"""Values, keys and statements of the engines, without servers."""

from datetime import date, datetime
from decimal import Decimal

import pytest

from atoll.identity import engines, outbox
from atoll.identity.engines import RowRefused, mariadb, postgresql, sqlite
from atoll.identity.engines.mariadb import MariaDBDatabase
from atoll.identity.engines.postgresql import PostgreSQLDatabase, PostgreSQLSession
from atoll.identity.engines.redis import RedisDatabase
from atoll.identity.engines.servers import canonical
from atoll.identity.engines.sqlite import SQLiteDatabase
from atoll.identity.tables import KINDS


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:////x/keystone.db?plugin=atoll&durability=relaxed", SQLiteDatabase),
        ("sqlite+redis://u:p@db/0?replica=/x/k.db&log=a&cloud=b&site=c", RedisDatabase),
        ("sqlite+rediss://u:p@db/0?replica=/x/k.db&log=a&cloud=b&site=c", RedisDatabase),
        ("mysql+pymysql://u:p@db/demo_paris_keystone", MariaDBDatabase),
        ("postgresql+psycopg://u:p@db/demo_paris_keystone?plugin=atoll-postgresql", PostgreSQLDatabase),
    ],
)
def test_a_url_names_its_engine(url, kind):
    made = engines.database(url)
    assert type(made) is kind
    made.close()
    if kind is SQLiteDatabase:
        assert str(vars(made)["_path"]) == "/x/keystone.db"


def test_a_commit_to_redis_is_not_sent_for_long():
    made = RedisDatabase("sqlite+redis://db/0?replica=/x/k.db&log=a&cloud=b&site=c")
    assert made._settings.timeout == 5
    assert RedisDatabase("sqlite+redis://db/0?replica=/x/k.db&log=a&cloud=b&site=c&timeout=2")._settings.timeout == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1),
        (datetime.fromisoformat("2026-12-01T03:00:00.000120"), "2026-12-01 03:00:00.000120"),
        (datetime.fromisoformat("2026-12-01T03:00:00"), "2026-12-01 03:00:00.000000"),
        (date(2026, 12, 1), "2026-12-01"),
        (Decimal(5), 5),
        ("x", "x"),
        (None, None),
    ],
)
def test_values_are_those_of_sqlite(value, expected):
    found = canonical(value)
    assert (found, type(found)) == (expected, type(expected))


def test_keys_in_json_are_those_of_sqlite():
    key = PostgreSQLSession(None, {}).canonical(["a", True, None, "2026-12-01T03:00:00.5", "2026-12-01 03:00:00"])
    assert key == ("a", 1, None, "2026-12-01 03:00:00.500000", "2026-12-01 03:00:00.000000")


def test_equal_times_are_no_difference():
    here = {"at": "2026-12-01 03:00:00.000000", "rows": [["x", "2026-12-01 03:00:00.000000"]], "name": "new", "more": 1}
    agreed = {"at": "2026-12-01 03:00:00", "rows": [["x", "2026-12-01 03:00:00"]], "name": "old"}
    found = PostgreSQLSession(None, {}).reconciled(here, agreed)
    assert found == {"at": agreed["at"], "rows": agreed["rows"], "name": "new", "more": 1}


def test_many_keys_take_several_statements():
    session = PostgreSQLSession(None, {})
    found = list(session.several("user", [("id", 't."id"')], [(str(number),) for number in range(450)]))
    assert [len(each.parameters) for each in found] == [200, 200, 50]
    [pair] = session.several("x", [("a", "a"), ("b", "b")], [("1", None), ("2", "3")])
    assert pair == ("", "((a = ? AND b IS NULL) OR (a = ? AND b = ?))", ["1", "2", "3"])
    assert list(session.several("user", [("id", "id")], [])) == []


def test_postgresql_gets_the_types_of_its_columns():
    session = PostgreSQLSession(None, {("user", "enabled"): "boolean", ("user", "name"): "character varying", ("user", "n"): "bigint"})
    assert [session.stored("user", "enabled", value) for value in (0, 1, None)] == [False, True, None]
    assert session.stored("user", "name", 5) == "5"
    assert session.stored("user", "n", 2**60) == 2**60
    for column, value in (("enabled", 2), ("name", "a\0b")):
        with pytest.raises(RowRefused):
            session.stored("user", column, value)


def test_every_replicated_table_is_captured_once():
    found = [capture.table for capture in outbox.captures()]
    assert len(found) == len(set(found))
    tables = {table.table for table in KINDS.values()} | {other.table for table in KINDS.values() for other in table.others}
    assert set(found) == tables


@pytest.mark.parametrize("module", [sqlite, mariadb, postgresql])
def test_the_outbox_has_the_same_columns_everywhere(module):
    """Else a move to another engine would lose entries."""
    text = " ".join(module.TABLES).replace('"', "").replace("`", "")
    for words in ("atoll_outbox (number ", "kind ", "key ", "atoll_applied (kind ", "content "):
        assert words in text
