"""Opens the gateway's own SQLite files, which only their owner may read."""

from __future__ import annotations

import os
import sqlite3
import weakref
from pathlib import Path

IN_MEMORY = ":memory:"
"""Value that means a database in memory instead of a file."""


def opened(owner: object, file: Path | str, schema: str, *, durable: bool) -> sqlite3.Connection:
    """Return a connection to a database that only its owner may read; create the database if it does not exist.

    Args:
        owner: the object that uses the database; a database in memory is closed when the object is collected.
        file: the file, whose directory exists; or `IN_MEMORY`.
        schema: the statements that create missing tables.
        durable: whether every commit is on the disk; otherwise a loss of power may undo the last commits, but not damage the file.

    Raises:
        sqlite3.Error: the file can't be read or written.
    """
    in_memory = file == IN_MEMORY
    if not in_memory:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # SQLite would create the file readable for everyone
    # The garbage collector closes a database in memory, and may do so in any thread.
    database = sqlite3.connect(file, isolation_level=None, check_same_thread=not in_memory)
    if in_memory:
        weakref.finalize(owner, database.close)
    try:
        database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}; {schema}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def opened_cache(owner: object, file: Path, schema: str) -> sqlite3.Connection:
    """Open a file that may be lost, and create it anew if it can't be used; see `opened`.

    Raises:
        sqlite3.Error: the file can't be created either.
    """
    try:
        return opened(owner, file, schema, durable=False)
    except sqlite3.DatabaseError:
        for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
            path.unlink(missing_ok=True)
        return opened(owner, file, schema, durable=False)
