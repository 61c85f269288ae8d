"""Guards of a replica file: writes by programs other than the store are refused or detected.

Each table has triggers that call a function that only this store's connections define. A write by another program, such as the sqlite3
shell, fails with "no such function: written_past_the_store". Changes of the schema, which start no trigger, are detected by SQLite's schema
cookie, of which the replica keeps a copy. A change that escapes both is detected when an entry of the log contradicts the row that it
changes.
"""

from __future__ import annotations

import uuid

import apsw

from atoll.stores.errors import ReplicaEdited
from atoll.stores.query import rows

FUNCTION = "written_past_the_store"
PREFIX = "atoll_store"
"""Prefix of the names of the store's own tables and triggers."""

_TABLES = r"""
SELECT t.name FROM sqlite_schema t
WHERE t.type = 'table' AND t.sql NOT LIKE 'CREATE VIRTUAL%'
AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name NOT LIKE 'atoll\_store%' ESCAPE '\'
AND NOT EXISTS (
    SELECT 1 FROM sqlite_schema g
    WHERE g.type = 'trigger' AND g.tbl_name = t.name AND g.name LIKE 'atoll\_store\_guard\_delete\_%' ESCAPE '\')
"""


def _nothing(*_arguments: object) -> None:
    return None


def admit(db: apsw.Connection) -> None:
    """Define the triggers' function on a connection of the store, so that it can write to guarded tables."""
    db.create_scalar_function(FUNCTION, _nothing, 0, deterministic=True)


def cookie(db: apsw.Connection) -> int:
    """Return SQLite's schema cookie, which each change of the schema increments."""
    return int(db.pragma("schema_version"))


def seal(db: apsw.Connection) -> None:
    """Add guards to tables without them, and store the schema's cookie. Call this within the transaction that changed the schema."""
    for (table,) in rows(db, _TABLES):
        quoted, mark = table.replace('"', '""'), uuid.uuid4().hex  # not the table's name, for tables are renamed
        for operation in ("insert", "update", "delete"):
            db.execute(f'CREATE TRIGGER {PREFIX}_guard_{operation}_{mark} BEFORE {operation} ON "{quoted}" BEGIN SELECT {FUNCTION}(); END')
    db.execute("UPDATE atoll_store SET cookie = ?", (cookie(db),))


def check(db: apsw.Connection, noted: int, path: str) -> None:
    """Compare the schema's cookie with the stored one.

    Raises:
        ReplicaEdited: a program other than the store has changed the schema.
    """
    if cookie(db) != noted:
        message = f"{path}: another program has changed the schema of this replica: delete the file, and the site takes the log's state"
        raise ReplicaEdited(message)
