"""SQLite: triggers fill the outbox, and a transaction that writes excludes all others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atoll.identity import outbox
from atoll.identity.engines.contract import Content, DatabaseError, IdentityDatabase, Row, RowRefused, Selection, Session
from atoll.identity.tables import Key, Value

BUSY_TIMEOUT_S = 30.0
"""Seconds to wait for another writer."""

_OUTBOX = "number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL"
_APPLIED = "kind TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (kind, key)"

TABLES = (
    f"CREATE TABLE IF NOT EXISTS atoll_outbox ({_OUTBOX})",
    f"CREATE TABLE IF NOT EXISTS atoll_applied ({_APPLIED}) WITHOUT ROWID",
)
"""The statements that create the tables of the outbox."""

_APPLYING = "CREATE TABLE IF NOT EXISTS atoll_applying (yes INTEGER PRIMARY KEY)"
"""A table with a row only while a record of the document is written into Keystone's tables, within that transaction."""

_INSTALLED = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'index') AND name LIKE 'atoll!_%' ESCAPE '!'"


def statements() -> Iterator[str]:
    """Yield the statements that create all triggers and the indexes that they need."""
    for capture in outbox.captures():
        yield from _captured(capture)
    for cascade in outbox.cascades():
        [column], [parent_column] = cascade.columns, cascade.parent_columns
        delete = f'DELETE FROM "{cascade.table}" WHERE "{column}" = OLD."{parent_column}"'
        yield f'CREATE TRIGGER "atoll_cascade_{cascade.table}" AFTER DELETE ON "{cascade.parent}" BEGIN {delete}; END'
    for name, column in outbox.indexes():
        yield f'CREATE INDEX "atoll_{name}_{column}" ON "{name}" ("{column}")'


def _captured(capture: outbox.Capture) -> Iterator[str]:
    old, new = (_key_of(capture, row) for row in ("OLD", "NEW"))
    yield _trigger(capture.table, "INSERT", new)
    if not capture.inserts_only:
        yield _trigger(capture.table, f"UPDATE OF {_list(capture.columns)}", f"{old} UNION {new}")
        yield _trigger(capture.table, "DELETE", old)


def _key_of(capture: outbox.Capture, row: str) -> str:
    if via := capture.via:
        found = f'json_array("{via.key[0]}") FROM "{via.table}" WHERE "{via.integer}" = {row}."{capture.key[0]}"'
    else:
        found = f"json_array({_list(capture.key, f'{row}.')})"
    return f"SELECT '{capture.kind}', {found}"


def _trigger(table: str, event: str, selected: str) -> str:
    name = f"atoll_{event.partition(' ')[0].lower()}_{table}"
    return (
        f'CREATE TRIGGER "{name}" AFTER {event} ON "{table}" WHEN NOT EXISTS (SELECT 1 FROM atoll_applying)'
        f" BEGIN INSERT INTO atoll_outbox (kind, key) {selected}; END"
    )


def _list(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


class SQLiteSession(Session):
    """A transaction of SQLite, or of a store whose replica is SQLite."""

    def __init__(self, execute: Callable[[str, Sequence[Any]], Iterable[Row]]) -> None:
        self._execute = execute

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Iterable[Row]:
        """Run a statement and return its rows."""
        return self._execute(statement, parameters)

    def several(self, table: str, columns: Sequence[tuple[str, str]], keys: Sequence[Sequence[Value]]) -> Iterator[Selection]:
        """Yield the selection of the given keys, which SQLite reads from one parameter; see `Session`."""
        condition = " AND ".join(f"{column} IS json_extract(k.value, '$[{index}]')" for index, (_name, column) in enumerate(columns))
        if keys:
            yield Selection("json_each(?) k CROSS JOIN ", condition, (json.dumps([list(key) for key in keys]),))

    def begin_applying(self) -> None:
        """Keep this transaction's changes out of the outbox."""
        self.execute("INSERT INTO atoll_applying VALUES (1)")

    def end_applying(self) -> None:
        """Record further changes in the outbox again; see `Session`."""
        self.execute("DELETE FROM atoll_applying")

    def stored(self, table: str, column: str, value: Value) -> Any:
        """Return the value: SQLite stores it as it is."""
        return value

    def canonical(self, key: Sequence[Value]) -> Key:
        """Return the key: SQLite returns it as it is."""
        return tuple(key)

    def reconciled(self, here: Content, agreed: Content) -> Content:
        """Return the content of the rows: SQLite returns it as it was written."""
        return here

    def install(self) -> None:
        """Create the tables and triggers of this version, in place of those of an earlier one."""
        for statement in (*TABLES, _APPLYING):
            self.execute(statement)
        for kind, name, _ in list(self.execute(_INSTALLED)):
            if not name.startswith("atoll_store"):
                self.execute(f'DROP {kind} "{name}"')
        for statement in statements():
            self.execute(statement)

    def is_current(self) -> bool:
        """Return whether all triggers and indexes are those of this version."""
        return {sql for _, _, sql in self.execute(_INSTALLED)}.issuperset(statements())

    def has(self, name: str) -> bool:
        """Return whether there is a table or an index of this name."""
        return bool(list(self.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))))


class SQLiteDatabase(IdentityDatabase):
    """Keystone's file of SQLite."""

    def __init__(self, path: Path) -> None:
        """Prepare to open a file.

        Args:
            path: the file, which Keystone creates.
        """
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def install(self) -> bool:
        """Open the file, and install the outbox; see `IdentityDatabase`."""
        self.close()
        file = f"{self._path.absolute().as_uri()}?mode=rw"  # only Keystone creates a missing file
        with _translated():
            self._connection = sqlite3.connect(file, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            # A loss of power may undo the last commits: pulled changes are then still in the outbox, and pushed ones are pushed again.
            self._connection.execute("PRAGMA synchronous=NORMAL")
        with self._transaction("IMMEDIATE") as session:
            is_new = not session.has("atoll_outbox")
            session.install()
        return is_new

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def is_reachable(self) -> bool:
        """Return True: a file has no server."""
        return True

    def adapt(self) -> None:
        """Do nothing: a schema of SQLite needs no change."""

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that reads; see `IdentityDatabase`."""
        with self._transaction("DEFERRED") as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that writes; see `IdentityDatabase`."""
        with self._transaction("IMMEDIATE") as session:
            yield session

    @contextmanager
    def _transaction(self, mode: str) -> Iterator[SQLiteSession]:
        connection = self._connection
        if connection is None:
            raise DatabaseError("the database is not open")
        with _translated():
            connection.execute(f"BEGIN {mode}")
            try:
                yield SQLiteSession(connection.execute)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise RowRefused(str(error)) from error
    except sqlite3.Error as error:
        raise DatabaseError(str(error)) from error
