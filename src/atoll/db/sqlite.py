"""A SQLAlchemy URL plugin that makes SQLite suitable for a service with many threads: `sqlite:///x.db?plugin=atoll`.

A commit returns when it is on the disk, so that a loss of power does not undo it (`group_flush.py`). With `&durability=relaxed` in the
URL, a commit survives the death of the process, but a loss of power may undo the last commits.

SQLite in WAL mode lets any number of readers run beside one writer. Two properties of SQLite make this fail for software written for MySQL:

- By default, a transaction begins as a reader. If it reads and then writes, and another transaction has committed in between, SQLite
  refuses the write immediately ("database is locked", SQLITE_BUSY_SNAPSHOT), whatever the busy timeout. Beginning every transaction with
  `BEGIN IMMEDIATE` avoids that, but then readers queue behind one another and behind writers.
- SQLite waits for the write lock by polling with growing sleeps (sqlite3BusyHandler), which is slow and unfair.

So with this plugin a transaction begins as a reader, and becomes a writer at its first statement that may write: the read transaction ends,
and `BEGIN IMMEDIATE` starts a writing one. Nothing was written before, so nothing is lost. Rows that the transaction read before may have
changed when it writes, as with the snapshot reads of InnoDB, for which these services are written. `SELECT … FOR UPDATE` and `SAVEPOINT`
are treated as writes. Writers of one process queue on a lock of their own and wake without polling; for writers of other processes SQLite's
busy timeout applies.

Sources: https://www.sqlite.org/isolation.html, https://www.sqlite.org/rescode.html#busy_snapshot, sqlalchemy/engine/interfaces.py
(CreateEnginePlugin), oslo_db/sqlalchemy/engines.py (how oslo.db begins transactions).
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine, ExecutionContext
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import Pool, QueuePool

from atoll.db.group_flush import GroupFlush

LOG = logging.getLogger(__name__)

DURABILITY = "durability"
"""The URL's parameter for durability: `full`, the default, or `relaxed`."""

BUSY_TIMEOUT_S = 60.0
"""Seconds that a writer waits for the write lock. No service holds the lock for a hundredth of this time."""

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # NORMAL keeps the database whole, but does not flush commits: `GroupFlush` flushes many commits together, outside the write lock.
    "PRAGMA synchronous=NORMAL",
    # 256 KiB for a connection instead of 2 MiB: all connections share the kernel's page cache, but not SQLite's.
    "PRAGMA cache_size=-256",
)
_READS = re.compile(r"\s*(?:SELECT|PRAGMA|EXPLAIN|BEGIN|COMMIT|ROLLBACK|RELEASE)\b", re.IGNORECASE)


class WriteLock:
    """The right to write to one database file, held by one thread of this process at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self) -> None:
        """Wait for the lock.

        Raises:
            sqlite3.OperationalError: this thread already writes to the file in another transaction, and would wait for itself; or no other
                thread released the lock for `BUSY_TIMEOUT_S`.
        """
        if self._owner == threading.get_ident():
            message = f"{self._path}: this thread already writes in another transaction, and would wait for itself"
            raise sqlite3.OperationalError(message)
        if not self._lock.acquire(timeout=BUSY_TIMEOUT_S):
            LOG.error("%s: a thread has held the write lock for %.0f s; its stack:\n%s", self._path, BUSY_TIMEOUT_S, _stack(self._owner))
            message = f"{self._path}: database is locked: another thread has been writing for {BUSY_TIMEOUT_S:.0f} s"
            raise sqlite3.OperationalError(message)
        self._owner = threading.get_ident()

    def release(self) -> None:
        """Release the lock, and wake the next writer."""
        self._owner = None
        self._lock.release()

    def forget_other_threads(self) -> None:
        """In a forked process, release a lock that another thread of the parent held, because that thread does not exist here."""
        self._lock = threading.Lock()
        if self._owner == threading.get_ident():
            self._lock.acquire()
        else:
            self._owner = None


def _stack(thread: int | None) -> str:
    """Return the stack of the thread that has held the lock for too long, as text for the log."""
    frame = sys._current_frames().get(thread or 0)
    return "".join(traceback.format_stack(frame)) if frame else "(gone)"


_write_locks: dict[str, WriteLock] = {}
_group_flushes: dict[str, GroupFlush] = {}
_guard = threading.Lock()


def write_lock(path: str) -> WriteLock:
    """Return the lock of a database file: the same object for all connections of this process to it."""
    key = _key(path)
    with _guard:
        return _write_locks.setdefault(key, WriteLock(key))


def group_flush(path: str) -> GroupFlush:
    """Return the `GroupFlush` of a database file: the same object for all connections of this process to it."""
    key = _key(path)
    with _guard:
        return _group_flushes.setdefault(key, GroupFlush(key))


def _forget_other_threads() -> None:
    """In a forked process, release the locks that the parent's threads held. Those threads do not exist here, so nothing else would.

    A forked process must open connections of its own, because SQLite's connections do not survive a fork
    (https://www.sqlite.org/howtocorrupt.html).
    """
    _guard.release()
    for lock in _write_locks.values():
        lock.forget_other_threads()
    for flush in _group_flushes.values():
        flush.forget_other_threads()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget_other_threads)


def _key(path: str) -> str:
    return path if path == ":memory:" else str(Path(path).resolve())


class QueuedConnection(sqlite3.Connection):
    """A DBAPI connection that holds its file's `WriteLock` from its first write to the end of the transaction."""

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, *args, **kwargs)
        self._database = database
        self._write_lock = write_lock(database)
        self._flush: GroupFlush | None = None
        self._writing = False

    def make_durable(self) -> None:
        """Make each later commit return only when it is on the disk. This does nothing for a database in memory.

        Raises:
            sqlite3.OperationalError: the database can't be read or written, or is not in WAL mode.
        """
        if self._database != ":memory:":
            flush = group_flush(self._database)
            flush.follow(self)
            self._flush = flush

    def flush_statements(self) -> None:
        """Make SQLite itself flush commits, because statements outside a transaction are not followed by a call of `commit`."""
        if self._flush is not None:
            self.execute("PRAGMA synchronous=FULL").close()

    def enter(self, *, writing: bool) -> None:
        """Open a transaction if none is open; if `writing` is true, make it a writer.

        Raises:
            sqlite3.OperationalError: the write lock was not free in time, or an earlier flush failed; the transaction stays as it was.
        """
        if writing and not self._writing:
            if self._flush is not None:
                self._flush.check()
            self._write_lock.acquire()
            self._writing = True
            try:
                if self.in_transaction:
                    self.execute("COMMIT")
                self.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._leave()
                raise
        elif not self.in_transaction:
            self.execute("BEGIN")

    def _leave(self) -> None:
        if self._writing:
            self._writing = False
            self._write_lock.release()

    def commit(self) -> None:
        """Commit, let the next writer in, and wait for the disk. A failed commit keeps the transaction and the lock.

        Raises:
            sqlite3.OperationalError: the commit was made, but could not be flushed to the disk, so a loss of power may undo it.
        """
        super().commit()
        wrote = self._writing
        self._leave()
        if wrote and self._flush is not None:
            self._flush.wait()

    def rollback(self) -> None:
        """Roll back, and let the next writer in."""
        try:
            super().rollback()
        finally:
            self._leave()

    def close(self) -> None:
        """Close the connection, which rolls back an open transaction."""
        try:
            super().close()
        finally:
            self._leave()


class SQLitePlugin(CreateEnginePlugin):
    """The entry point `atoll` of `sqlalchemy.plugins`: WAL, pooled connections, queued writers, readers that never wait."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        self._durable = _is_durable(url)
        # oslo.db asks for NullPool, which opens the file and parses the schema again for each transaction.
        kwargs["poolclass"] = QueuePool
        connect_args = kwargs.setdefault("connect_args", {})
        connect_args.update(factory=QueuedConnection, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)

    def update_url(self, url: URL) -> URL:
        """Remove the plugin's own parameter."""
        return url.difference_update_query([DURABILITY])

    def handle_pool_kwargs(self, pool_cls: type[Pool], pool_args: dict[str, Any]) -> None:
        """Have the pool keep a few connections, and open any number of further connections when they are needed."""
        pool_args.update(pool_size=4, max_overflow=-1)

    def engine_created(self, engine: Engine) -> None:
        """Attach the listeners to a new engine."""
        event.listen(engine, "connect", _set_pragmas)
        if self._durable:
            event.listen(engine, "connect", _make_durable)
        event.listen(engine, "begin", _forestall_begin)
        event.listen(engine, "before_cursor_execute", _enter_transaction)


def _is_durable(url: URL) -> bool:
    value = url.query.get(DURABILITY, "full")
    if value not in {"full", "relaxed"}:
        raise ValueError(f"{DURABILITY}={value} in the URL of a database: expected full or relaxed")
    return value == "full"


def _make_durable(connection: QueuedConnection, _record: object) -> None:
    connection.make_durable()


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _forestall_begin(conn: Connection) -> None:
    """Keep oslo.db from executing BEGIN through SQLAlchemy, which took a seventh of nova-api's time: `enter` executes BEGIN directly.

    oslo_db/sqlalchemy/engines.py (`_sqlite_emit_begin`) checks `in_transaction`, and removes it at the end of the transaction.
    """
    conn.info["in_transaction"] = True


def _enter_transaction(
    conn: Connection,
    cursor: DBAPICursor,
    statement: str,
    _parameters: object,
    context: ExecutionContext | None,
    _executemany: bool,
) -> None:
    if statement.startswith(("BEGIN", "PRAGMA")):
        return  # a PRAGMA may be refused inside a transaction, and oslo.db itself starts one with BEGIN
    connection = cursor.connection
    if not isinstance(connection, QueuedConnection):
        return
    if conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        connection.flush_statements()
    else:
        connection.enter(writing=_may_write(statement, context))


def _may_write(statement: str, context: ExecutionContext | None) -> bool:
    if not _READS.match(statement):
        return True
    compiled = getattr(context, "compiled", None)
    return getattr(getattr(compiled, "statement", None), "_for_update_arg", None) is not None
