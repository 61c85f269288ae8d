"""Group flush: makes commits to a SQLite database in WAL mode durable, many commits with one flush of the disk.

`synchronous=FULL` flushes the write-ahead log inside COMMIT, while the writer still holds the write lock: each writer waits for the flushes
of all writers before it. Here SQLite runs with `synchronous=NORMAL`. A writer commits, lets the next writer in, and then waits for a flush
of the log that began after its commit. One of the waiting threads flushes for all of them.

A commit is durable when `GroupFlush.wait` returns, for these reasons (wal.c and os_unix.c of SQLite 3.40; https://www.sqlite.org/wal.html):

- COMMIT has written all frames of the transaction into the `-wal` file with write(2), in the order of the commits (`sqlite3WalFrames`). A
  `fdatasync` of that file by any process brings them to the disk, with the file's new length. Later frames, even of an incomplete
  transaction, may be flushed with them: recovery reads the log up to the last whole commit.
- NORMAL omits only the flush at the commit. A checkpoint flushes the log before it copies pages into the database, and flushes the database
  before it marks the log as copied (`walCheckpoint`). Only a log with that mark is restarted, with another salt and a header that is
  flushed before the first new frame (`walRestartLog`, `syncHeader`). So if the log was restarted between a commit and its flush, the commit
  is in the database already, durably, and the flush is superfluous.
- The first flush of a `-wal` by a connection, that of the header, flushes the directory too (`UNIXFILE_DIRSYNC`): the file's name is
  durable.
- The `-wal` file is removed or replaced only when the last connection to the database, in all processes, has been closed.
  (`sqlite3WalClose` needs an exclusive lock; a connection in WAL mode holds a shared one as long as it is open.) All waiting threads have
  an open connection. So it suffices to look for another file when a connection is opened, in `follow`.
- Opening and closing the `-wal` is harmless. Closing the database or the `-shm` file would drop all locks of this process (POSIX), but
  SQLite locks nothing in the `-wal`.

During a flush, other connections can read a commit that is not durable yet, as with InnoDB. If such a reader writes a transaction, that is
flushed later than the commit it has read, because all commits are in one log.

After a failed flush the content of the disk is unknown: Linux reports an error once and then treats the lost pages as written
(https://www.postgresql.org/docs/current/runtime-config-error-handling.html#GUC-DATA-SYNC-RETRY). So all commits that waited fail, and all
later commits of this process fail before they write anything. When the next process first opens the database, it copies the whole log into
it and begins a new log, unless other processes use the database without a pause. Only flushes of the new log are reliable again. The
descriptor is opened before the first commit and stays open, because a descriptor that is opened later may not report an earlier error.
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
"""Milliseconds that a checkpoint waits for other users of the database before it leaves an old log as it is. It holds the write lock
meanwhile, and a reader for which it waits may itself wait for a writer: a longer wait would delay all of them."""


class GroupFlush:
    """The flushes of one database's write-ahead log in this process.

    Attributes:
        count: the number of flushes so far.
    """

    def __init__(self, database: str) -> None:
        """Prepare the flushes of a database.

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
        """Open the write-ahead log to which a connection writes, so that later flushes reach this file.

        Args:
            connection: an open connection in WAL mode, outside a transaction.

        Raises:
            sqlite3.OperationalError: the database can't be read or written, or is not in WAL mode.
        """
        with self._turn:
            if self._log is not None and _is_at(self._log, self._path):
                return
            # This also creates the log's file, if it is missing. Afterwards, commits of a process that died before its flush, or after a
            # failed flush, are durable.
            _begin_anew(connection)
            try:
                opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise sqlite3.OperationalError(f"{self._path}: can't be opened to flush commits: {error.strerror}") from error
            if self._log is not None:
                os.close(self._log)
            self._log = opened

    def check(self) -> None:
        """Refuse to write if commits can't be made durable any more.

        Raises:
            sqlite3.OperationalError: an earlier flush failed.
        """
        if self._broken is not None:
            message = f"{self._path}: disk I/O error: commits can't be flushed to the disk: {self._broken.strerror}"
            raise sqlite3.OperationalError(message)

    def wait(self) -> None:
        """Wait until all commits that were made before this call are durable.

        Raises:
            sqlite3.OperationalError: the flush failed. The commit was made, but a loss of power may undo it.
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

    def forget_other_threads(self) -> None:
        """In a forked process, forget the parent's threads that were flushing or waiting, because they do not exist in this process."""
        self._turn = threading.Condition()
        self._flushing = False

    def _flush(self) -> None:
        assert self._log is not None, "`follow` was not called"
        self.count += 1
        try:
            os.fdatasync(self._log)
        except OSError as error:
            self._broken = error
            LOG.critical(
                "%s: the flush to the disk failed: the last commits may be lost, and this process stops writing: %s", self._path, error
            )
            self.check()


def _begin_anew(connection: sqlite3.Connection) -> None:
    """Copy the log into the database, and empty the log. If others use the database for too long, only copy as much as possible."""
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    for statement in (f"PRAGMA busy_timeout={PATIENCE_MS}", "PRAGMA wal_checkpoint(TRUNCATE)", f"PRAGMA busy_timeout={before}"):
        with closing(connection.execute(statement)) as cursor:
            cursor.fetchall()


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), Path(path).stat())
    except FileNotFoundError:
        return False
