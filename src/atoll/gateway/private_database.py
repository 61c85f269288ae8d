"""SQLite files of the gateway's own, which nobody else may read."""

from __future__ import annotations

import os
import sqlite3
import weakref
from pathlib import Path

IN_MEMORY = ":memory:"
"""In place of a file: nothing is kept."""


def opened(owner: object, file: Path | str, schema: str, *, durable: bool) -> sqlite3.Connection:
    """Open a file, or make it, for its owner alone.

    Args:
        owner: the object that uses it. One that keeps nothing need not close it: it is closed when the object goes.
        file: the file; its directory exists. Or `IN_MEMORY`.
        schema: statements that make what is not there yet.
        durable: what is committed is on the disk; otherwise the last commits before a loss of power may be lost, but not the file.

    Raises:
        sqlite3.Error: the file can't be read or written.
    """
    in_memory = file == IN_MEMORY
    if not in_memory:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # before SQLite makes it for everyone to read
    # The garbage collector closes one in memory, in any thread.
    database = sqlite3.connect(file, isolation_level=None, check_same_thread=not in_memory)
    if in_memory:
        weakref.finalize(owner, database.close)
    database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}; {schema}")
    return database
