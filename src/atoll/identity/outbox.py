"""The outbox: a table, filled by triggers, of changes to Keystone's tables that are not in the replicated document yet.

A trigger writes in the writer's own transaction, whether that is Keystone's mapper, one of its bulk statements, `keystone-manage` or an
administrator at an SQL prompt: every committed change is in the outbox, and every change in the outbox is committed. Events of SQLAlchemy
would miss bulk deletions, and other processes' changes.

Other triggers carry out the cascades of Keystone's foreign keys (ON DELETE CASCADE), which SQLite performs only for a connection that asks
for them. Without these triggers, bulk deletions would leave dependent rows behind, such as the roles of an application credential. The next
credential could get the same integer key, and with it those roles.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from atoll.identity.rows import Content, quoted
from atoll.identity.tables import KINDS, IntegerKey, Key, OneRow, ReplicatedTable, RowList, RowPerField, encode

_TABLES = """
CREATE TABLE IF NOT EXISTS atoll_outbox (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS atoll_applying (yes INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS atoll_applied (
    kind TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
"""`atoll_applying` has a row only while a record of the document is written into Keystone's tables, within that transaction: the outbox
is for other writers. `atoll_applied` has the content of each record on which document and tables last agreed."""


def is_new(connection: sqlite3.Connection) -> bool:
    """Return whether a database has no outbox yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'atoll_outbox'").fetchone() is None


def install(connection: sqlite3.Connection) -> None:
    """Create the tables and triggers of this version, in an open transaction."""
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    old = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index') AND name LIKE 'atoll!_%' ESCAPE '!'")
    for kind, name in old.fetchall():
        connection.execute(f"DROP {kind} {quoted(name)}")
    for statement in statements():
        connection.execute(statement)


def statements() -> Iterator[str]:
    """Yield the statements that create all triggers and the indexes that they need."""
    for kind, table in KINDS.items():
        yield from _capture(kind, table)
        for other in table.others:
            yield from _capture_other(kind, other)
            yield from _cascade(table, other)
    indexed = {(via.table, via.key[0]) for table in KINDS.values() for other in table.others if (via := _via(other))}
    indexed |= {(other.table, other.owner) for table in KINDS.values() for other in table.others}
    for name, column in sorted(indexed):
        yield f"CREATE INDEX {quoted(f'atoll_{name}_{column}')} ON {quoted(name)} ({quoted(column)})"


class Pending(NamedTuple):
    """The oldest entries of the outbox.

    Attributes:
        keys: the keys by kind, each once.
        last: the number of the last entry, for `forget`; 0 if there is none.
        more: whether there may be further entries.
    """

    keys: dict[str, list[Key]]
    last: int
    more: bool


def pending(connection: sqlite3.Connection, limit: int) -> Pending:
    """Return at most `limit` of the oldest entries."""
    found: defaultdict[str, dict[Key, None]] = defaultdict(dict)
    entries = connection.execute("SELECT number, kind, key FROM atoll_outbox ORDER BY number LIMIT ?", (limit,)).fetchall()
    for _, kind, key in entries:
        found[kind][tuple(json.loads(key))] = None
    keys = {kind: list(found[kind]) for kind in KINDS if kind in found}
    return Pending(keys, entries[-1][0] if entries else 0, len(entries) == limit)


def forget(connection: sqlite3.Connection, last: int) -> None:
    """Remove the entries with numbers up to `last`."""
    connection.execute("DELETE FROM atoll_outbox WHERE number <= ?", (last,))


def applied(connection: sqlite3.Connection, kind: str, keys: Sequence[Key]) -> dict[Key, Content]:
    """Return the contents on which document and tables last agreed, for the given records that existed then."""
    names = {encode(key): key for key in keys}
    statement = "SELECT a.key, a.content FROM json_each(?) k CROSS JOIN atoll_applied a ON a.kind = ? AND a.key = k.value"
    return {names[name]: json.loads(text) for name, text in connection.execute(statement, (json.dumps(list(names)), kind))}


def agree(connection: sqlite3.Connection, kind: str, key: Key, agreed: Content | None) -> None:
    """Record the content on which document and tables agree now; `None` if the record does not exist."""
    if agreed is None:
        connection.execute("DELETE FROM atoll_applied WHERE kind = ? AND key = ?", (kind, encode(key)))
    else:
        connection.execute("INSERT OR REPLACE INTO atoll_applied VALUES (?, ?, ?)", (kind, encode(key), json.dumps(agreed)))


def _capture(kind: str, table: ReplicatedTable) -> Iterator[str]:
    columns = (*table.key, *table.columns, *(("extra",) if table.extra else ()), *((table.deleted_column,) if table.deleted_column else ()))
    old, new = (f"SELECT '{kind}', json_array({_columns(table.key, row)})" for row in ("OLD", "NEW"))
    yield _trigger(table.table, "INSERT", new)
    if not table.deleted_locally:
        yield _trigger(table.table, f"UPDATE OF {_columns(columns)}", f"{old} UNION {new}")
        yield _trigger(table.table, "DELETE", old)


def _capture_other(kind: str, other: OneRow | RowPerField | RowList) -> Iterator[str]:
    if isinstance(other, OneRow):
        columns = (other.owner, *(column for column, _ in other.fields), *other.copies)
    else:
        columns = (other.owner, *(other.key if isinstance(other, RowPerField) else ()), *other.values)
    old, new = (_owner_of(kind, other, row) for row in ("OLD", "NEW"))
    yield _trigger(other.table, "INSERT", new)
    yield _trigger(other.table, f"UPDATE OF {_columns(columns)}", f"{old} UNION {new}")
    yield _trigger(other.table, "DELETE", old)


def _owner_of(kind: str, other: OneRow | RowPerField | RowList, row: str) -> str:
    if via := _via(other):
        selected = f"json_array({quoted(via.key[0])}) FROM {quoted(via.table)} WHERE {quoted(via.integer)} = {row}.{quoted(other.owner)}"
    else:
        selected = f"json_array({row}.{quoted(other.owner)})"
    return f"SELECT '{kind}', {selected}"


def _cascade(table: ReplicatedTable, other: OneRow | RowPerField | RowList) -> Iterator[str]:
    via = _via(other)
    name, integer = (via.table, via.integer) if via else (table.table, table.key[0])
    delete = f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = OLD.{quoted(integer)}"
    yield f"CREATE TRIGGER {quoted(f'atoll_cascade_{other.table}')} AFTER DELETE ON {quoted(name)} BEGIN {delete}; END"


def _trigger(table: str, event: str, selected: str) -> str:
    name = f"atoll_{event.partition(' ')[0].lower()}_{table}"
    return (
        f"CREATE TRIGGER {quoted(name)} AFTER {event} ON {quoted(table)} WHEN NOT EXISTS (SELECT 1 FROM atoll_applying)"
        f" BEGIN INSERT INTO atoll_outbox (kind, key) {selected}; END"
    )


def _columns(columns: Iterable[str], row: str = "") -> str:
    return ", ".join(f"{row}.{quoted(column)}" if row else quoted(column) for column in columns)


def _via(other: OneRow | RowPerField | RowList) -> IntegerKey | None:
    return None if isinstance(other, OneRow) else other.owner_via
