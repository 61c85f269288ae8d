"""The replica: a SQLite file that holds the state of the database after the first n entries of the log.

The file has two tables of the store's own, which are not in the log. `atoll_store` holds the replica's position n, so that it is committed
together with the rows. `atoll_store_log` holds the newest entries, so that they can be restored to a log that has lost them. The file is a
cache: if it is deleted, the site downloads the log's snapshot and the entries after it.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from atoll.stores import forks, guard, shape
from atoll.stores.entry import Entry, unpack
from atoll.stores.errors import NotAReplica, ReplicaEdited, Trimmed
from atoll.stores.query import row, rows
from atoll.stores.shape import Shape

BUSY_TIMEOUT_MS = 60_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS atoll_store (
    one INTEGER PRIMARY KEY CHECK (one = 1), cloud TEXT, log TEXT, generation TEXT, position INTEGER, last BLOB, cookie INTEGER);
CREATE TABLE IF NOT EXISTS atoll_store_log (n INTEGER PRIMARY KEY, txid BLOB, keys BLOB, payload BLOB);
"""


class Position(NamedTuple):
    """A replica's place in the log."""

    n: int
    """Number of applied entries."""
    last: bytes
    """Id of the transaction in the last applied entry; empty at position 0."""


class Identity(NamedTuple):
    """The log from which a replica was made."""

    cloud: str
    log: str
    generation: str


class Replica:
    """A site's replica file. Its methods take a connection that `open` returned."""

    def __init__(self, path: Path, history: int) -> None:
        self.path = path
        self._history = history
        self._shapes: dict[str, Shape] = {}
        self._shapes_cookie = -1

    def open(self) -> apsw.Connection:
        """Return a connection to the file; create the file if it is missing."""
        db = forks.watched(apsw.Connection(str(self.path)))
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        guard.admit(db)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-256"):  # a cache need not be flushed, because the log is
            db.execute(f"PRAGMA {pragma}").fetchall()
        return db

    @contextlib.contextmanager
    def exclusive(self, purpose: str = "write") -> Iterator[None]:
        """Hold a lock that excludes the site's other processes. If this process dies, the kernel releases the lock.

        Args:
            purpose: the lock's name, `write` or `open`.
        """
        descriptor = self.lock(purpose)
        try:
            yield
        finally:
            forks.release(descriptor)

    def lock(self, purpose: str, *, wait: bool = True) -> int:
        """Take a lock that excludes the site's other processes, and return its descriptor, which `forks.release` closes.

        Raises:
            BlockingIOError: another process holds the lock, and `wait` is false.
        """
        descriptor = forks.open_lock(f"{self.path}.{purpose}.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            forks.release(descriptor)
            raise
        return descriptor

    def initialise(self, db: apsw.Connection, identity: Identity, position: Position) -> None:
        """Turn an ordinary database file into the replica of a log at a position."""
        with db:
            db.execute(_SCHEMA)
            db.execute("INSERT OR REPLACE INTO atoll_store VALUES (1, ?, ?, ?, ?, ?, 0)", (*identity, *position))
            guard.seal(db)

    def identity(self, db: apsw.Connection) -> Identity | None:
        """Return the log of which the file is a replica; `None` if the file is empty.

        Raises:
            NotAReplica: the file is a database, but not a replica.
        """
        if row(db, "SELECT 1 FROM sqlite_schema WHERE name = 'atoll_store'"):
            return Identity(*row(db, "SELECT cloud, log, generation FROM atoll_store"))
        if row(db, "SELECT 1 FROM sqlite_schema"):
            raise NotAReplica(f"{self.path} is a database, but not the replica of a log: move it away, or create a log from it (seed)")
        return None

    def peek(self) -> Identity | None:
        """Return the log of which the file is a replica, without changing the file; `None` if the file is missing or empty.

        Raises:
            NotAReplica: the file is not a replica.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            return None
        try:
            db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                return self.identity(db)
            finally:
                db.close()
        except apsw.NotADBError:
            raise NotAReplica(f"{self.path} is not a SQLite database: move it away") from None

    def adopt(self, db: apsw.Connection, generation: str) -> None:
        """Record the generation of a log that was made anew and still contains this replica's entries."""
        with db:
            db.execute("UPDATE atoll_store SET generation = ?", (generation,))

    def position(self, db: apsw.Connection) -> Position:
        """Return the replica's position, as the connection's transaction sees it."""
        return Position(*row(db, "SELECT position, last FROM atoll_store"))

    def begin(self, db: apsw.Connection) -> Position:
        """Open a write transaction and return the replica's position.

        Raises:
            ReplicaEdited: another program has changed the schema; no transaction is open.
            apsw.Error: the file can't be written.
        """
        db.execute("BEGIN IMMEDIATE")
        n, last, noted = row(db, "SELECT position, last, cookie FROM atoll_store")
        try:
            guard.check(db, noted, str(self.path))
        except ReplicaEdited:
            db.execute("ROLLBACK")
            raise
        if noted != self._shapes_cookie:
            self.forget_shapes()
            self._shapes_cookie = noted
        return Position(n, last)

    def record(self, db: apsw.Connection, entries: Sequence[Entry]) -> None:
        """Record, in the open transaction, that the replica contains these entries."""
        if not entries:
            return
        n = entries[-1].n
        db.execute("UPDATE atoll_store SET position = ?, last = ?", (n, entries[-1].txid))
        db.executemany("INSERT INTO atoll_store_log VALUES (?, ?, ?, ?)", entries)
        db.execute("DELETE FROM atoll_store_log WHERE n <= ?", (n - self._history,))

    def apply(self, db: apsw.Connection, entries: Sequence[Entry]) -> int:
        """Apply entries within the open transaction, skip those that the replica has already, and return the number of applied entries.

        Raises:
            Trimmed: entries between the replica's position and the first given entry are missing.
            ReplicaEdited: an entry contradicts the rows of this replica.
        """
        at = self.position(db).n
        entries = [entry for entry in entries if entry.n > at]
        if entries and entries[0].n != at + 1:
            raise Trimmed(f"{self.path}: entries {at + 1} to {entries[0].n - 1} are no longer in the log: delete the replica")
        triggers = db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, -1)
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)  # entries contain the effects of triggers already
        try:
            for entry in entries:
                self._apply_one(db, entry)
        finally:
            db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers)
        self.record(db, entries)
        return len(entries)

    def _apply_one(self, db: apsw.Connection, entry: Entry) -> None:
        schema = False
        try:
            for kind, what in unpack(entry.payload):
                if kind == "d":
                    db.execute(str(what))
                    schema = True
                else:
                    apsw.Changeset.apply(what, db, flags=apsw.SQLITE_CHANGESETAPPLY_FKNOACTION)
        except (apsw.AbortError, apsw.ConstraintError, apsw.SQLError, apsw.SchemaChangeError, ValueError) as error:
            message = (
                f"{self.path}: entry {entry.n} of the log does not fit ({error}): another program has written to this replica: delete it"
            )
            raise ReplicaEdited(message) from error
        if schema:
            self.reseal(db)

    def reseal(self, db: apsw.Connection) -> None:
        """After the store itself has changed the schema, guard new tables and store the schema's cookie; see `guard`."""
        guard.seal(db)
        self.forget_shapes()

    def forget_shapes(self) -> None:
        """Drop the cached shapes of tables."""
        self._shapes = {}

    def shape(self, db: apsw.Connection, table: str) -> Shape:
        """Return the shape that a table has in the open write transaction."""
        if table not in self._shapes:
            self._shapes[table] = shape.of_table(db, table)
        return self._shapes[table]

    def history(self, db: apsw.Connection) -> list[Entry]:
        """Return the newest entries that the replica has kept, in order."""
        return [Entry(*kept) for kept in rows(db, "SELECT n, txid, keys, payload FROM atoll_store_log ORDER BY n")]

    def load(self, snapshot: bytes, identity: Identity) -> None:
        """Replace the content with a snapshot in one transaction, so that open connections see either the old or the new state."""
        part = Path(f"{self.path}.part")
        part.write_bytes(snapshot)
        try:
            source, target = apsw.Connection(str(part)), self.open()
            with target.backup("main", source, "main") as backup:
                backup.step(-1)
            source.close()
            with target:
                target.execute("UPDATE atoll_store SET cloud = ?, log = ?, generation = ?", identity)
                guard.seal(target)
            target.close()
        finally:
            part.unlink()

    def dump(self, db: apsw.Connection) -> bytes:
        """Return the replica's content, without its history, as a SQLite file."""
        part = Path(f"{self.path}.dump")
        part.unlink(missing_ok=True)
        try:
            db.execute("VACUUM INTO ?", (str(part),))
            copy = apsw.Connection(str(part))
            copy.execute("DELETE FROM atoll_store_log")
            copy.execute("VACUUM")
            copy.close()
            return part.read_bytes()
        finally:
            part.unlink(missing_ok=True)
