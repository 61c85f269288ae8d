"""A transaction: its statements with their results, its changes, and its replay on another state."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import apsw

from atoll.stores import entry, keys
from atoll.stores.entry import Segment
from atoll.stores.errors import Deadlock, StoreError
from atoll.stores.log import Candidate
from atoll.stores.query import row
from atoll.stores.replica import Replica
from atoll.stores.shape import Shape
from atoll.stores.statement import StatementKind

_SAVEPOINT = "atoll_store_transaction"

Row = tuple[Any, ...]

Outcome = tuple[list[Row], int] | type[BaseException]
"""The rows that a statement returned and the number of rows that it changed; or the class of its error."""


class Noted(NamedTuple):
    """A statement that ran, and its outcome."""

    sql: str
    parameters: Sequence[Any]
    kind: StatementKind
    outcome: Outcome


class Result(NamedTuple):
    """The result of a statement."""

    columns: tuple[tuple[str, str | None], ...] | None
    """Name and declared type of each column; `None` for a statement that returns no rows."""
    rows: list[Row]
    changed: int
    """Number of changed rows; -1 for a statement that changes none."""
    rowid: int
    """The id of the row that was inserted last."""


def run(db: apsw.Connection, sql: str, parameters: Sequence[Any], kind: StatementKind) -> Result:
    """Run a statement to its end, and return its result."""
    cursor = db.cursor()
    columns: list[Any] = []

    def describe(running: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        columns.append(running.get_description())  # a finished cursor has none any more
        return True

    cursor.exec_trace = describe
    cursor.convert_binding = _convert
    rows = cursor.execute(sql, parameters).fetchall()
    return Result(columns[0] if columns else None, rows, db.changes() if kind is StatementKind.WRITE else -1, db.last_insert_rowid())


def _convert(_cursor: apsw.Cursor, _number: int, value: Any) -> Any:
    """Return a value with dates and times, for which SQLite has no type, converted as the sqlite3 module does."""
    if hasattr(value, "isoformat"):
        return value.isoformat(" ") if hasattr(value, "hour") and hasattr(value, "year") else value.isoformat()
    raise TypeError(f"{type(value).__name__} can't be a parameter")


class Transaction:
    """One transaction of a service."""

    def __init__(self, replica: Replica) -> None:
        self.noted: list[Noted] = []
        self.tables: set[str] = set()
        """Tables that the transaction has read; filled at the level `serializable` only."""
        self.first_read: int | None = None
        """The replica's position at the transaction's first read; `None` if it wrote before it read."""
        self.doomed: StoreError | None = None
        """The error that ends the transaction at its next statement, because a replay has failed or SQLite has undone the transaction."""
        self.rivals: tuple[Transaction, ...] = ()
        """The transactions of the group, not yet committed, whose rows may have caused the last violation of a constraint."""
        self._replica = replica
        self._db: apsw.Connection | None = None
        self._session: apsw.Session | None = None
        self._segments: list[Segment] = []
        self._savepoints: list[tuple[str, int]] = []  # for each savepoint, its name and the number of segments before it
        self._touched: set[tuple[str, int]] = set()
        self._since = self._seen = 0
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.candidate: Candidate | None = None

    def start(self, db: apsw.Connection, since: int, seen: int) -> None:
        """Begin to write within an open SQLite transaction.

        Args:
            db: the connection.
            since: the position in the log after which no other transaction may have written a key that this one writes.
            seen: number of transactions of the group whose effects this transaction can read.
        """
        self._db, self._since, self._seen = db, since, seen
        self._segments, self._savepoints, self._touched = [], [], set()
        db.execute(f"SAVEPOINT {_SAVEPOINT}")
        self._record()

    def _record(self) -> None:
        db = self._writer
        self._session = apsw.Session(db, "main")
        self._session.config(apsw.SQLITE_SESSION_OBJCONFIG_ROWID, True)
        self._session.attach()
        # A changeset omits an update that sets the present values, but the update is treated as a write.
        touch = self._touched.add
        db.set_update_hook(lambda kind, _db, table, rowid: touch((table, rowid)) if kind == apsw.SQLITE_UPDATE else None)

    @property
    def _writer(self) -> apsw.Connection:
        if self._db is None:
            raise RuntimeError("the transaction has not begun to write")
        return self._db

    def _stop_recording(self) -> None:
        if self._session:
            if not self._session.is_empty and (changes := self._session.changeset()):
                self._segments.append(("c", changes))
            self._session.close()
            self._session = None

    def write(self, sql: str, parameters: Sequence[Any], kind: StatementKind) -> Result:
        """Run a statement as part of the writing transaction, and return its result."""
        if kind is StatementKind.SAVEPOINT:
            return self._savepoint(sql, parameters)
        if kind is not StatementKind.SCHEMA:
            return run(self._writer, sql, parameters, kind)
        self._stop_recording()  # DDL must begin a new changeset, because a changeset fits only the tables that existed when it was made
        try:
            result = run(self._writer, sql, parameters, kind)
            self._segments.append(("d", sql))
            self._replica.reseal(self._writer)
        finally:
            self._record()
        return result

    def _savepoint(self, sql: str, parameters: Sequence[Any]) -> Result:
        """Run SAVEPOINT, RELEASE or ROLLBACK TO; ROLLBACK TO also drops the changes since the savepoint."""
        words = sql.replace('"', " ").replace(";", " ").split()
        verb, name = words[0].upper(), words[-1].casefold()
        self._stop_recording()
        try:
            result = run(self._writer, sql, parameters, StatementKind.SAVEPOINT)
            places = [place for place, (known, _) in enumerate(self._savepoints) if known == name]
            if verb == "SAVEPOINT":
                self._savepoints.append((name, len(self._segments)))
            elif verb == "RELEASE":
                del self._savepoints[places[-1] :]
            else:
                del self._savepoints[places[-1] + 1 :]
                del self._segments[self._savepoints[-1][1] :]
                self._replica.forget_shapes()
        finally:
            self._record()
        return result

    def note(self, sql: str, parameters: Sequence[Any], kind: StatementKind, outcome: Outcome) -> None:
        """Record a statement and its outcome."""
        self.noted.append(Noted(sql, parameters, kind, outcome))

    def replay(self) -> None:
        """Run the recorded statements again.

        Raises:
            Deadlock: a statement had a result other than the first time.
        """
        for sql, parameters, kind, outcome in self.noted:
            again: Outcome
            try:
                result = self.write(sql, parameters, kind)
                again = result.rows, result.changed
            except (apsw.Error, TypeError) as error:
                again = type(error)
            if again != outcome:
                raise Deadlock(f"deadlock: another transaction came between: {sql[:80]!r} gave another result: run the transaction again")

    def finish(self, *, serializable: bool, foreign_keys: bool) -> Candidate:
        """End the writing and return the candidate. Its payload is empty if nothing has changed.

        Raises:
            apsw.ConstraintError: a deferred foreign key is violated.
        """
        db = self._writer
        self._stop_recording()
        db.set_update_hook(None)
        if foreign_keys and db.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise apsw.ConstraintError("FOREIGN KEY constraint failed")
        shapes = _Shapes(self._replica, db)
        found = keys.of_changes(db, self._segments, shapes, foreign_keys=foreign_keys)
        if entry.SCHEMA not in found.writes:
            found.relies.update(self._touched_keys(db, shapes))
            if serializable:
                found.relies.update(entry.key(table, "") for table in self.tables)
        payload = entry.pack(self._segments) if self._segments else b""
        writes, relies = b"".join(sorted(found.writes)), b"".join(sorted(found.relies))
        self.candidate = Candidate(uuid.uuid4().bytes, writes, relies, payload, self._since, self._seen)
        db.execute(f"RELEASE {_SAVEPOINT}")
        return self.candidate

    def _touched_keys(self, db: apsw.Connection, shapes: _Shapes) -> set[bytes]:
        found = set()
        for table, rowid in self._touched:
            shape = shapes[table]
            identity: Sequence[Any] | None = (rowid,)
            if shape.key and not shape.rowid_alias:
                columns = ", ".join(f'"{shape.names[column]}"' for column in shape.key)
                identity = row(db, f'SELECT {columns} FROM "{table}" WHERE rowid = ?', (rowid,))
            if identity:
                found.add(keys.row_key(table, shape, identity))
        return found

    def undo(self) -> None:
        """Undo the transaction's changes, so that it can start again."""
        if self._db is None:
            return
        db, self._db = self._db, None
        if any(kind == "d" for kind, _ in self._segments):
            self._replica.forget_shapes()
        db.set_update_hook(None)
        if self._session:
            self._session.close()
            self._session = None
        if db.in_transaction:
            # SQLite may have rolled back the whole transaction by itself, for instance because the disk is full.
            with contextlib.suppress(apsw.SQLError):
                db.execute(f"ROLLBACK TO {_SAVEPOINT}")
                db.execute(f"RELEASE {_SAVEPOINT}")

    def end(self, error: BaseException | None = None) -> None:
        """Set the outcome for the waiting service: an error, or `None` for success."""
        if not self._ended.is_set():
            self._error = error
            self._ended.set()

    @property
    def ended(self) -> bool:
        """True if the outcome is decided."""
        return self._ended.is_set()

    def wait(self, seconds: float, overdue: Callable[[], None]) -> None:
        """Wait for the outcome, and call `overdue` after every `seconds` seconds of waiting.

        Raises:
            StoreError: the transaction failed.
        """
        while not self._ended.wait(seconds):
            overdue()
        if self._error:
            raise type(self._error)(
                *self._error.args
            ) from self._error  # several threads may raise the same error, so each needs an object of its own


class _Shapes(dict[str, Shape]):
    """The shapes of a replica's tables, read when they are first needed."""

    def __init__(self, replica: Replica, db: apsw.Connection) -> None:
        super().__init__()
        self._replica, self._db = replica, db

    def __missing__(self, table: str) -> Shape:
        return self._replica.shape(self._db, table)
