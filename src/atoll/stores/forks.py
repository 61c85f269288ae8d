"""The state of its parent that a forked process must close: file locks, and connections to SQLite.

A file lock (flock) belongs to an open file, which a child process shares with its parent. As long as the child has the file open, the lock
is held, even after the parent has released it. SQLite records in the memory of its process which locks the process holds on each database.
A child that used its parent's connections would rely on locks that only its parent holds. So a child closes the files of locks and the
connections, and opens its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from weakref import WeakSet

import apsw

_guard = threading.Lock()
_locks: set[int] = set()
_connections: WeakSet[apsw.Connection] = WeakSet()


def open_lock(path: str) -> int:
    """Open the file of a lock, create it if it is missing, and return its descriptor, which `release` closes."""
    with _guard:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _locks.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """Close the file of a lock, which releases the lock."""
    with _guard:
        _locks.discard(descriptor)
        os.close(descriptor)


def watched(connection: apsw.Connection) -> apsw.Connection:
    """Register a connection, so that a forked child process closes it; return the connection."""
    with _guard:
        _connections.add(connection)
    return connection


def stop() -> None:
    """Block all threads that want to open or release a lock, until `go_on` is called."""
    _guard.acquire()


def go_on() -> None:
    """Let threads open and release locks again."""
    _guard.release()


def forget(*, connections: bool) -> None:
    """Close the locks of this process's parent and, if `connections` is true, the parent's connections.

    A connection that was writing must stay open, because closing it would undo its transaction in the memory that parent and child share.
    """
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()
    if connections:
        for connection in list(_connections):
            with contextlib.suppress(apsw.Error):
                connection.close(True)
        _connections.clear()
