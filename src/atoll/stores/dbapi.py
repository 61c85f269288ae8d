"""The store as a DB-API 2.0 module, as SQLAlchemy's dialect for SQLite expects it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from sqlite3 import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from typing import Any

import apsw

from atoll.stores.errors import Inherited
from atoll.stores.numbering import number
from atoll.stores.statement import StatementKind
from atoll.stores.store import Store, open_store
from atoll.stores.transaction import Result, Row, Transaction, run
from atoll.stores.url import Settings

__all__ = [
    "Binary", "Connection", "Cursor", "DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "InternalError",
    "NotSupportedError", "OperationalError", "ProgrammingError", "apilevel", "connect", "paramstyle", "sqlite_version",
    "sqlite_version_info", "threadsafety",
]  # fmt: skip

apilevel, threadsafety, paramstyle = "2.0", 1, "qmark"
sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple(map(int, sqlite_version.split(".")))
Binary = memoryview

_WRITERS = {StatementKind.LOCK, StatementKind.WRITE, StatementKind.SCHEMA, StatementKind.SAVEPOINT}


def connect(settings: Settings) -> Connection:
    """Open a connection to the store that the settings describe.

    Raises:
        StoreError: the store can't be opened.
    """
    return Connection(open_store(settings))


class Connection:
    """A connection to the store.

    It reads on a SQLite connection of its own. From its first write until the end of the transaction, it uses that of the writers.
    """

    isolation_level: str | None = None
    """Ignored; the sqlite3 module's callers set it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.autocommit = False
        """True if each statement is a transaction of its own (AUTOCOMMIT)."""
        self._reader = store.reader()
        self._transaction: Transaction | None = None
        self._writing = False

    def cursor(self) -> Cursor:
        """Return a new cursor on this connection."""
        return Cursor(self)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Execute a statement on a new cursor."""
        return self.cursor().execute(sql, parameters)

    def executescript(self, script: str) -> Cursor:
        """Execute the statements of a script, and commit."""
        cursor, statement = self.cursor(), ""
        for part in script.split(";"):
            statement += part + ";"
            if sqlite3.complete_statement(statement):
                if statement.strip(" \t\r\n;"):
                    cursor.execute(statement.strip())
                statement = ""
        self.commit()
        return cursor

    def create_function(self, name: str, narg: int, function: Callable[..., Any] | None, *, deterministic: bool = False) -> None:
        """Define an SQL function, for this connection and for writers."""
        self._reader.create_scalar_function(name, function, narg, deterministic=deterministic)
        self.store.group.define(name, narg, function, deterministic=deterministic)

    def run(self, sql: str, parameters: Sequence[Any]) -> Result | None:
        """Run a statement in this connection's transaction, and return its result; `None` if the statement has no result.

        Raises:
            sqlite3.Error: the statement or the transaction failed.
        """
        if self.store.inherited:
            raise Inherited(f"{self.store.replica.path}: the process's parent opened this connection: open one after the fork")
        statement = self.store.statement(self._reader, sql)
        kind = statement.kind
        if kind is StatementKind.BEGIN:
            return None
        if kind in {StatementKind.COMMIT, StatementKind.ROLLBACK}:
            self.commit() if kind is StatementKind.COMMIT else self.rollback()
            return None
        if kind is StatementKind.SETTING:
            return self._set(sql, parameters)
        if kind is StatementKind.SAVEPOINT and self._transaction is None and not sql.lstrip()[:9].upper().startswith("SAVEPOINT"):
            raise OperationalError(f"no transaction is open: {sql[:80]!r}")
        transaction = self._enter(writing=kind in _WRITERS)
        transaction.tables |= statement.tables
        return self._run_noted(transaction, sql, parameters, kind)

    def _run_noted(self, transaction: Transaction, sql: str, parameters: Sequence[Any], kind: StatementKind) -> Result:
        group = self.store.group
        try:
            if not self._writing:
                result = run(self._reader, sql, parameters, kind)
            else:
                with group.using:
                    sql, parameters = self._number(sql, parameters, kind)
                    result = group.write(transaction, sql, parameters, kind)
        except (apsw.Error, TypeError) as error:
            transaction.note(sql, parameters, kind, type(error))
            raise translated(error) from error
        transaction.note(sql, parameters, kind, (result.rows, result.changed))
        return result

    def _number(self, sql: str, parameters: Sequence[Any], kind: StatementKind) -> tuple[str, Sequence[Any]]:
        if kind is not StatementKind.WRITE:
            return sql, parameters
        store, db = self.store, self.store.group.writer.db
        return number(db, sql, parameters, lambda table: store.replica.shape(db, table), store.series)

    def _set(self, sql: str, parameters: Sequence[Any]) -> Result:
        """Run a PRAGMA on this connection; run `foreign_keys` on the writers' connection as well."""
        words = sql.lower().replace("=", " = ").replace(";", " ").split()
        db = self.store.group.writer.db if self._writing else self._reader
        try:
            if words[:3] == ["pragma", "foreign_keys", "="]:
                self.store.group.writer.foreign_keys = words[3] in {"on", "1", "true", "yes"}
                return run(self._reader, sql, parameters, StatementKind.SETTING)
            if self._writing:
                with self.store.group.using:
                    return run(db, sql, parameters, StatementKind.SETTING)
            return run(db, sql, parameters, StatementKind.SETTING)
        except (apsw.Error, TypeError) as error:
            raise translated(error) from error

    def _enter(self, *, writing: bool) -> Transaction:
        """Open a transaction if none is open; if `writing` is true, wait for the right to write in it."""
        transaction = self._transaction
        if transaction is None:
            transaction = self._transaction = Transaction(self.store.replica)
            if self.store.settings.reads == "fresh":
                self.store.catch_up()
            if not writing:
                self._reader.execute("BEGIN")
                transaction.first_read = self.store.replica.position(self._reader).n
        if writing and not self._writing:
            self._end_reading()
            self.store.ready()
            self.store.group.enter(transaction)
            self._writing = True
        return transaction

    def _end_reading(self) -> None:
        if not self.store.inherited and self._reader.in_transaction:
            self._reader.execute("ROLLBACK")

    def commit(self) -> None:
        """Commit the transaction, if one is open.

        Raises:
            StoreError: the transaction failed, or its outcome is unknown.
            sqlite3.IntegrityError: a deferred foreign key is violated.
        """
        transaction, writing = self._transaction, self._writing
        self._transaction, self._writing = None, False
        self._end_reading()
        if transaction is None:
            return
        if self.store.inherited:
            raise Inherited(f"{self.store.replica.path}: the process's parent began this transaction: begin one after the fork")
        if not writing:
            self.store.metrics.reads += 1
            return
        try:
            self.store.group.commit(transaction)
        except apsw.Error as error:
            raise translated(error) from error

    def rollback(self) -> None:
        """Roll back the transaction, if one is open."""
        transaction, writing = self._transaction, self._writing
        self._transaction, self._writing = None, False
        self._end_reading()
        if transaction is not None and writing and not self.store.inherited:
            self.store.group.leave(transaction)

    def close(self) -> None:
        """Roll back, and return the SQLite connection for reading to the store, for another user."""
        self.rollback()
        self.store.give_back(self._reader)


def translated(error: Exception) -> sqlite3.Error:
    """Return the DB-API error that corresponds to an error of apsw, the SQLite library."""
    if isinstance(error, (TypeError, apsw.BindingsError)):
        return ProgrammingError(str(error))
    if isinstance(error, apsw.ConstraintError):
        return IntegrityError(str(error))
    if isinstance(error, apsw.BusyError):
        return OperationalError("database is locked")
    return OperationalError(str(error))


class Cursor:
    """A cursor: the result of one statement at a time."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: list[Row] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._rows: Iterator[Row] = iter(())

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Execute a statement and keep its rows.

        Raises:
            sqlite3.Error: the statement failed.
        """
        self.description, self.rowcount, self._rows = None, -1, iter(())
        result = self.connection.run(sql, parameters)
        if result is not None:
            self.rowcount, self.lastrowid, self._rows = result.changed, result.rowid, iter(result.rows)
            if result.columns:
                self.description = [(name, kind, None, None, None, None, None) for name, kind in result.columns]
        if self.connection.autocommit:
            self.connection.commit()
        return self

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> Cursor:
        """Execute a statement once with each item of `many` as its parameters."""
        changed = 0
        for parameters in many:
            changed += max(self.execute(sql, parameters).rowcount, 0)
        self.rowcount = changed
        return self

    def fetchone(self) -> Row | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchmany(self, count: int | None = None) -> list[Row]:
        """Return the next rows, at most `count`."""
        return [row for _, row in zip(range(count or self.arraysize), self._rows, strict=False)]

    def fetchall(self) -> list[Row]:
        """Return the rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def close(self) -> None:
        """Drop the rows that are left."""
        self._rows = iter(())
