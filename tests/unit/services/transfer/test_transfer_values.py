"""Values of columns that two engines declare differently."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import types
from sqlalchemy.dialects import mysql, postgresql, sqlite

from atoll.services.transfer.values import Kind, column_of

NOW = datetime.fromisoformat("2026-11-30T17:00:01.999999")


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        (types.BOOLEAN(), mysql.TINYINT(display_width=1), Kind.BOOLEAN),
        (mysql.TINYINT(display_width=1), types.BOOLEAN(), Kind.BOOLEAN),
        (mysql.TINYINT(), types.SMALLINT(), Kind.INTEGER),
        (sqlite.DATETIME(), mysql.DATETIME(), Kind.SECONDS),
        (sqlite.DATETIME(), mysql.DATETIME(fsp=6), Kind.TIME),
        (mysql.DATETIME(), postgresql.TIMESTAMP(), Kind.SECONDS),
        (sqlite.DATETIME(), postgresql.TIMESTAMP(), Kind.TIME),
        (types.TEXT(), postgresql.JSON(), Kind.JSON),
        (sqlite.JSON(), mysql.LONGTEXT(), Kind.JSON),
        (types.BLOB(), mysql.LONGBLOB(), Kind.BYTES),
        (types.BLOB(), postgresql.BYTEA(), Kind.BYTES),
        (types.FLOAT(), mysql.FLOAT(), Kind.SINGLE),
        (types.FLOAT(), postgresql.DOUBLE_PRECISION(), Kind.FLOAT),
        (types.NUMERIC(), mysql.DECIMAL(10, 2), Kind.DECIMAL),
        (types.BIGINT(), mysql.BIGINT(), Kind.INTEGER),
        (types.VARCHAR(), postgresql.INET(), Kind.ADDRESS),
        (types.VARCHAR(36), types.CHAR(36), Kind.PADDED),
        (types.VARCHAR(), mysql.ENUM("a", "b"), Kind.OTHER),
        (types.TEXT(), mysql.MEDIUMTEXT(), Kind.OTHER),
    ],
)
def test_both_types_decide_the_kind(source, target, kind):
    assert column_of("x", source, target).kind == kind


@pytest.mark.parametrize(
    ("source", "target", "value", "stored"),
    [
        (types.BOOLEAN(), mysql.TINYINT(display_width=1), True, True),
        (mysql.TINYINT(display_width=1), types.BOOLEAN(), 0, False),
        (types.BOOLEAN(), types.INTEGER(), 1, True),
        (sqlite.DATETIME(), mysql.DATETIME(), NOW, NOW.replace(microsecond=0)),
        (sqlite.DATETIME(), postgresql.TIMESTAMP(), NOW, NOW),
        (postgresql.TIMESTAMP(timezone=True), sqlite.DATETIME(), NOW.replace(tzinfo=UTC), NOW),
        (types.TEXT(), postgresql.JSON(), '{"a": [1]}', {"a": [1]}),
        (postgresql.JSON(), mysql.LONGTEXT(), {"a": [1]}, '{"a": [1]}'),
        (sqlite.JSON(), types.TEXT(), "a JSON text", '"a JSON text"'),
        (types.VARCHAR(), types.TEXT(), "x ", "x "),
    ],
)
def test_values_get_the_type_of_the_target(source, target, value, stored):
    column = column_of("x", source, target)
    assert column.stored(value) == stored
    assert column.stored(None) is None
    assert column.canonical(value) == column.canonical(stored, of_target=True)
    assert column.canonical(None) is None


@pytest.mark.parametrize(
    ("source", "target", "one", "other"),
    [
        (types.FLOAT(), mysql.FLOAT(), 1.23456789, 1.23457),
        (types.FLOAT(), mysql.FLOAT(), 0.1, 0.1),
        (types.FLOAT(), mysql.FLOAT(), 16777217.0, 16777200.0),
        (types.FLOAT(), postgresql.DOUBLE_PRECISION(), -0.0, 0.0),
        (types.NUMERIC(), mysql.DECIMAL(10, 2), "1.50", 1.5),
        (types.VARCHAR(), postgresql.INET(), "fe80::0001", "fe80::1"),
        (types.VARCHAR(), postgresql.INET(), "10.0.0.1", "10.0.0.1/32"),
        (types.VARCHAR(36), types.CHAR(36), "x", "x   "),
        (types.TEXT(), postgresql.JSON(), '{"b": 1, "a": 2}', {"a": 2, "b": 1}),
    ],
)
def test_equal_values_have_one_canonical_form(source, target, one, other):
    column = column_of("x", source, target)
    assert column.canonical(one) == column.canonical(other, of_target=True)


@pytest.mark.parametrize(
    ("source", "target", "one", "other"),
    [
        (types.FLOAT(), mysql.FLOAT(), 1.2345, 1.2346),
        (sqlite.DATETIME(), postgresql.TIMESTAMP(), NOW, NOW.replace(microsecond=0)),
        (types.VARCHAR(), types.VARCHAR(), "x", "x "),
        (types.VARCHAR(), types.VARCHAR(), "x", "X"),
        (types.BOOLEAN(), mysql.TINYINT(display_width=1), True, 0),
        (types.TEXT(), postgresql.JSON(), "[1]", [2]),
    ],
)
def test_other_values_have_other_forms(source, target, one, other):
    column = column_of("x", source, target)
    assert column.canonical(one) != column.canonical(other, of_target=True)
