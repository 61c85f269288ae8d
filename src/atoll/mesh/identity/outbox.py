"""What was written to Keystone's tables and has yet to go into the document: a table that triggers fill.

A trigger writes in the very transaction of whoever writes, be it Keystone's mapper, one of its bulk statements, `keystone-manage` or an
administrator at an SQL prompt: what is committed is in the outbox, and what is in the outbox is committed. Events of SQLAlchemy would
miss bulk deletions, and whatever another process does.

Other triggers do what Keystone's foreign keys ask for (ON DELETE CASCADE), which SQLite does not unless it is told to at every
connection: bulk deletions left rows behind, such as the roles of an application credential, whose integer the next credential would
get, and with it the roles.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from atoll.mesh.identity.rows import Content, quoted
from atoll.mesh.identity.tables import KINDS, Key, Many, One, Table, Via, Whole, encode

_TABLES = """
CREATE TABLE IF NOT EXISTS atoll_outbox (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS atoll_applying (yes INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS atoll_applied (
    kind TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
"""`atoll_applying` has a row only while a record of the document is written into Keystone's tables, within that transaction: the outbox
is for what others write. `atoll_applied` has the content of each record as it was when document and tables last agreed about it."""


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether a database has no outbox yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'atoll_outbox'").fetchone() is None


def install(connection: sqlite3.Connection) -> None:
    """Make tables and triggers, of this version, in a transaction that is open."""
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    old = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index') AND name LIKE 'atoll!_%' ESCAPE '!'")
    for kind, name in old.fetchall():
        connection.execute(f"DROP {kind} {quoted(name)}")
    for statement in statements():
        connection.execute(statement)


def statements() -> Iterator[str]:
    """What makes all triggers, and the indexes that they need."""
    for kind, table in KINDS.items():
        yield from _capture(kind, table)
        for other in table.others:
            yield from _capture_other(kind, other)
            yield from _cascade(table, other)
    indexed = {(via.table, via.key[0]) for table in KINDS.values() for other in table.others if (via := _via(other))}
    indexed |= {(other.table, other.owner) for table in KINDS.values() for other in table.others}
    for name, column in sorted(indexed):
        yield f"CREATE INDEX {quoted(f'atoll_{name}_{column}')} ON {quoted(name)} ({quoted(column)})"


def pending(connection: sqlite3.Connection, most: int) -> tuple[dict[str, list[Key]], int]:
    """The oldest entries.

    Args:
        connection: to the database.
        most: how many.

    Returns:
        The keys by kind, each once; and the number of the last entry, for `forget`.
    """
    found: defaultdict[str, dict[Key, None]] = defaultdict(dict)
    entries = connection.execute("SELECT number, kind, key FROM atoll_outbox ORDER BY number LIMIT ?", (most,)).fetchall()
    for _, kind, key in entries:
        found[kind][tuple(json.loads(key))] = None
    return {kind: list(found[kind]) for kind in KINDS if kind in found}, entries[-1][0] if entries else 0


def forget(connection: sqlite3.Connection, last: int) -> None:
    """Remove the entries up to a number."""
    connection.execute("DELETE FROM atoll_outbox WHERE number <= ?", (last,))


def applied(connection: sqlite3.Connection, kind: str, keys: Sequence[Key]) -> dict[Key, Content]:
    """The contents that document and tables agreed on last, of those of some records that were there."""
    names = {encode(key): key for key in keys}
    statement = "SELECT a.key, a.content FROM json_each(?) k CROSS JOIN atoll_applied a ON a.kind = ? AND a.key = k.value"
    return {names[name]: json.loads(text) for name, text in connection.execute(statement, (json.dumps(list(names)), kind))}


def agree(connection: sqlite3.Connection, kind: str, key: Key, agreed: Content | None) -> None:
    """Take note of what document and tables agree on now; None if the record is not there."""
    if agreed is None:
        connection.execute("DELETE FROM atoll_applied WHERE kind = ? AND key = ?", (kind, encode(key)))
    else:
        connection.execute("INSERT OR REPLACE INTO atoll_applied VALUES (?, ?, ?)", (kind, encode(key), json.dumps(agreed)))


def _capture(kind: str, table: Table) -> Iterator[str]:
    columns = (*table.key, *table.columns, *(("extra",) if table.extra else ()), *((table.dead,) if table.dead else ()))
    old, new = (f"SELECT '{kind}', json_array({_columns(table.key, row)})" for row in ("OLD", "NEW"))
    yield _trigger(table.table, "INSERT", new)
    if not table.kept:
        yield _trigger(table.table, f"UPDATE OF {_columns(columns)}", f"{old} UNION {new}")
        yield _trigger(table.table, "DELETE", old)


def _capture_other(kind: str, other: One | Many | Whole) -> Iterator[str]:
    if isinstance(other, One):
        columns = (other.owner, *(column for column, _ in other.fields), *other.copies)
    else:
        columns = (other.owner, *(other.key if isinstance(other, Many) else ()), *other.values)
    old, new = (_owner_of(kind, other, row) for row in ("OLD", "NEW"))
    yield _trigger(other.table, "INSERT", new)
    yield _trigger(other.table, f"UPDATE OF {_columns(columns)}", f"{old} UNION {new}")
    yield _trigger(other.table, "DELETE", old)


def _owner_of(kind: str, other: One | Many | Whole, row: str) -> str:
    if via := _via(other):
        selected = f"json_array({quoted(via.key[0])}) FROM {quoted(via.table)} WHERE {quoted(via.integer)} = {row}.{quoted(other.owner)}"
    else:
        selected = f"json_array({row}.{quoted(other.owner)})"
    return f"SELECT '{kind}', {selected}"


def _cascade(table: Table, other: One | Many | Whole) -> Iterator[str]:
    via = _via(other)
    name, integer = (via.table, via.integer) if via else (table.table, table.key[0])
    delete = f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = OLD.{quoted(integer)}"  # noqa: S608 - names of ours
    yield f"CREATE TRIGGER {quoted(f'atoll_cascade_{other.table}')} AFTER DELETE ON {quoted(name)} BEGIN {delete}; END"


def _trigger(table: str, event: str, selected: str) -> str:
    name = f"atoll_{event.partition(' ')[0].lower()}_{table}"
    return (
        f"CREATE TRIGGER {quoted(name)} AFTER {event} ON {quoted(table)} WHEN NOT EXISTS (SELECT 1 FROM atoll_applying)"  # noqa: S608
        f" BEGIN INSERT INTO atoll_outbox (kind, key) {selected}; END"
    )


def _columns(columns: Iterable[str], row: str = "") -> str:
    return ", ".join(f"{row}.{quoted(column)}" if row else quoted(column) for column in columns)


def _via(other: One | Many | Whole) -> Via | None:
    return None if isinstance(other, One) else other.owner_via
