"""Make commits to a SQLite database in WAL mode durable, many with one flush of the disk.

`synchronous=FULL` flushes the write-ahead log inside COMMIT, while the writer still holds the write lock: each writer waits for the
flushes of all writers before it. Here SQLite runs with `synchronous=NORMAL`. A writer commits, lets the next writer in, and then waits
until the log has been flushed by a flush that began after its commit. One of the waiting threads flushes for all of them.

Why a commit is durable when `GroupFlush.wait` returns (wal.c and os_unix.c of SQLite 3.40; https://www.sqlite.org/wal.html):

- COMMIT has written all frames of the transaction into the `-wal` file with write(2), in the order of the commits (`sqlite3WalFrames`).
  `fdatasync` of that file by anybody brings them to the disk, with the file's new length. It does not matter which thread or process
  wrote them, nor that later frames, even half a transaction, go along: recovery reads the log up to the last whole commit.
- NORMAL leaves out nothing but the flush at the commit. A checkpoint flushes the log before it copies pages into the database, and
  flushes the database before it marks the log as copied (`walCheckpoint`). Only a log that is marked so is begun anew, with another
  salt and a header that is flushed before the first new frame (`walRestartLog`, `syncHeader`). So if the log was begun anew between a
  commit and its flush, the commit is in the database already, durably, and the flush is superfluous.
- The first flush of a `-wal` by a connection, that of the header, flushes the directory too (`UNIXFILE_DIRSYNC`): its name is durable.
- The `-wal` file is removed or replaced only when the last connection to the database, in all processes, has been closed
  (`sqlite3WalClose` needs an exclusive lock; a connection in WAL mode holds a shared one as long as it is open). All who wait here have
  theirs open. So it is enough to look for another file when a connection is opened, in `follow`.
- To open and close the `-wal` is harmless. To close the database or the `-shm` file would drop all locks of this process (POSIX), but
  SQLite locks nothing in the `-wal`.

A commit can be seen by others before it is durable, for the time of a flush, as with InnoDB. Whoever writes into the same database
because of what it saw is flushed after it, since there is one log.

If a flush fails, nobody knows what is on the disk: Linux reports an error once and then takes the lost pages for written
(https://www.postgresql.org/docs/current/runtime-config-error-handling.html#GUC-DATA-SYNC-RETRY). So all commits that waited fail, and
so do all later ones of this process, before they write anything. The next process brings the whole log into the database when it opens
it first, and begins another log, unless others use it without a pause: only then is another flush worth anything. The descriptor stays
open from before the first commit: one that is opened later may not be told of an earlier error.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

LOG = logging.getLogger(__name__)

PATIENCE_MS = 200
"""Milliseconds to wait for others before an old log is left as it is. The checkpoint holds the write lock while it waits for readers, and
those may wait for a writer of their own process: longer would hold up all of them."""


class GroupFlush:
    """The flushes of one database's write-ahead log in this process.

    Attributes:
        count: flushes that were made.
    """

    def __init__(self, database: str) -> None:
        """Flush nothing yet.

        Args:
            database: the path of the database file.
        """
        self._path = f"{database}-wal"
        self._log: int | None = None
        self._turn = threading.Condition()
        self._written = 0
        self._durable = 0
        self._flushing = False
        self._broken: OSError | None = None
        self.count = 0

    def follow(self, connection: sqlite3.Connection) -> None:
        """Flush the log that this connection writes from now on.

        Args:
            connection: open, in WAL mode, and in no transaction.

        Raises:
            sqlite3.OperationalError: the database can't be read or written, or is not in WAL mode.
        """
        with self._turn:
            if self._log is not None and _is_at(self._log, self._path):
                return
            # Also makes the log's file, if there is none. What a process left that died before its flush, or after one that failed, is
            # durable after this.
            _begin_anew(connection)
            try:
                opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise sqlite3.OperationalError(f"{self._path}: can't be opened to flush commits: {error.strerror}") from error
            if self._log is not None:
                os.close(self._log)
            self._log = opened

    def check(self) -> None:
        """Refuse to write what could not be made durable.

        Raises:
            sqlite3.OperationalError: an earlier flush failed.
        """
        if self._broken is not None:
            message = f"{self._path}: disk I/O error: what is committed can't be flushed to the disk: {self._broken.strerror}"
            raise sqlite3.OperationalError(message)

    def wait(self) -> None:
        """Return once all that has been committed before this call is durable.

        Raises:
            sqlite3.OperationalError: it was committed, and may be lost with the machine's power: the flush failed.
        """
        with self._turn:
            self._written += 1
            ticket = self._written
            while self._flushing and self._durable < ticket:
                self._turn.wait()
            if self._durable >= ticket:
                return
            self.check()
            self._flushing = True
            goal = self._written
        try:
            self._flush()
            self._durable = goal
        finally:
            with self._turn:
                self._flushing = False
                self._turn.notify_all()

    def _flush(self) -> None:
        assert self._log is not None, "no connection was told to `follow`"
        self.count += 1
        try:
            os.fdatasync(self._log)
        except OSError as error:
            self._broken = error
            LOG.critical("%s: can't be flushed: the last commits may be lost, and nothing is written any more: %s", self._path, error)
            self.check()


def _begin_anew(connection: sqlite3.Connection) -> None:
    """Bring the log into the database and make it empty; if others are busy with it for too long, only the former, as far as it goes."""
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    for statement in (f"PRAGMA busy_timeout={PATIENCE_MS}", "PRAGMA wal_checkpoint(TRUNCATE)", f"PRAGMA busy_timeout={before}"):
        with closing(connection.execute(statement)) as cursor:
            cursor.fetchall()


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), Path(path).stat())
    except FileNotFoundError:
        return False
