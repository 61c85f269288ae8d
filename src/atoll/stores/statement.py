"""Kinds of SQL statements, and the tables that they read."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

import apsw
import apsw.ext

FOR_UPDATE = "/* FOR UPDATE */"
"""Mark that the dialect writes in place of FOR UPDATE, which SQLite does not have."""

_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(\w*)", re.DOTALL)


class StatementKind(enum.Enum):
    """The kind of a statement, which determines how it takes part in a transaction."""

    READ = enum.auto()
    LOCK = enum.auto()
    """SELECT … FOR UPDATE: a read that, like a write, needs the writers' lock (`group`)."""
    WRITE = enum.auto()
    SCHEMA = enum.auto()
    """DDL, logged as text."""
    SAVEPOINT = enum.auto()
    """SAVEPOINT, RELEASE and ROLLBACK TO."""
    SETTING = enum.auto()
    """PRAGMA and similar statements, which change the connection and do not belong to a transaction."""
    BEGIN = enum.auto()
    """BEGIN. The connection ignores the statement, and begins a transaction by itself at the first read or write."""
    COMMIT = enum.auto()
    ROLLBACK = enum.auto()
    """ROLLBACK of the whole transaction."""


_KINDS = {
    "SELECT": StatementKind.READ, "WITH": StatementKind.READ, "EXPLAIN": StatementKind.READ, "VALUES": StatementKind.READ,
    "INSERT": StatementKind.WRITE, "UPDATE": StatementKind.WRITE, "DELETE": StatementKind.WRITE, "REPLACE": StatementKind.WRITE,
    "SAVEPOINT": StatementKind.SAVEPOINT, "RELEASE": StatementKind.SAVEPOINT, "ROLLBACK": StatementKind.SAVEPOINT,
    "PRAGMA": StatementKind.SETTING, "VACUUM": StatementKind.SETTING, "ANALYZE": StatementKind.SETTING,
    "ATTACH": StatementKind.SETTING, "DETACH": StatementKind.SETTING,
    "BEGIN": StatementKind.BEGIN, "COMMIT": StatementKind.COMMIT, "END": StatementKind.COMMIT, "": StatementKind.BEGIN,
}  # fmt: skip
_TO_SAVEPOINT = re.compile(r"\bTO\b", re.IGNORECASE)
_WITH_WRITE = re.compile(r"\)\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)


class Statement(NamedTuple):
    """The kind of a statement, and the tables that it reads."""

    kind: StatementKind
    tables: frozenset[str]
    """Tables that the statement reads."""


def kind_of(sql: str) -> StatementKind:
    """Return the kind of a statement; a statement that is not recognised is treated as DDL."""
    found = _WORD.match(sql)
    word = found[1].upper() if found else ""
    kind = _KINDS.get(word, StatementKind.SCHEMA)
    if kind is StatementKind.READ and sql.rstrip().endswith(FOR_UPDATE):
        return StatementKind.LOCK
    if word == "ROLLBACK" and not _TO_SAVEPOINT.search(sql):
        return StatementKind.ROLLBACK
    if word == "WITH" and _WITH_WRITE.search(sql):
        return StatementKind.WRITE
    return kind


def tables_of(db: apsw.Connection, sql: str) -> frozenset[str]:
    """Return the tables that a statement reads; an empty set for an invalid statement, which will fail when it is executed."""
    try:
        actions = apsw.ext.query_info(db, sql, actions=True).actions or ()
    except apsw.Error:
        return frozenset()
    return frozenset(action.table_name for action in actions if action.action_name == "SQLITE_READ" and action.table_name)
