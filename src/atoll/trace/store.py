"""A site's store of spans: one SQLite file, bounded in size, written by several processes and read by commands.

A writer inserts its spans in batches, in transactions of milliseconds. When the file has reached its greatest size, the next writer
makes room by a rule that is fair to clients (`room.victims`). A damaged file is set aside and a new one begun, because a running site does
not need the recorded spans.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atoll.trace import room

FILE = "trace/spans.db"
"""Path of the store, below the directory of a site."""

ASKED_BY = "atoll.asked_by"
"""Attribute with the user who asked for the recording; empty for a request without a token. Traces recorded by chance lack it."""

VERSION = 2
_READABLE = frozenset((0, 1, VERSION))
"""Versions of the store that a command can read. Version 1 has no column `client`."""

BUSY_S = 5.0
"""Seconds that a writer waits for another writer."""

PAGE = 4096
_SCHEMA = """
DROP TABLE IF EXISTS spans;
CREATE TABLE spans (
    number INTEGER PRIMARY KEY,
    trace BLOB NOT NULL, span BLOB NOT NULL, parent BLOB,
    kind TEXT NOT NULL, name TEXT NOT NULL, service TEXT NOT NULL, site TEXT NOT NULL,
    start INTEGER NOT NULL, end INTEGER NOT NULL, error TEXT,
    request INTEGER, response INTEGER, attributes TEXT NOT NULL, client TEXT
);
CREATE INDEX spans_of_trace ON spans (trace, client);
"""
_COLUMNS = "trace, span, parent, kind, name, service, site, start, end, error, request, response, attributes"
_INSERT = f"INSERT INTO spans ({_COLUMNS}, client) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - of constants
_TRACES = "SELECT trace, max(client), count(*), max(number) FROM spans GROUP BY trace"
_SHORTEN = "DELETE FROM spans WHERE trace = ? AND number NOT IN (SELECT number FROM spans WHERE trace = ? ORDER BY start LIMIT ?)"
_SELECT = f"SELECT {_COLUMNS} FROM spans WHERE trace = ? ORDER BY start LIMIT ?"  # noqa: S608 - of constants


class Span(NamedTuple):
    """One recorded operation, or one end of a message between two processes.

    Attributes:
        trace: the id of the trace, 32 hexadecimal digits.
        span: the id of the span, 16 hexadecimal digits.
        parent: the id of the span that caused it; empty for the first of a trace.
        kind: `server`, `client`, `producer`, `consumer` or `internal`.
        name: the name of the operation, without ids, such as `GET /v2.0/ports/{id}`.
        service: the process that performed the operation, such as `nova`.
        site: the site of the process; empty for a client outside.
        start: nanoseconds since 1970, by the clock of its machine.
        end: nanoseconds since 1970, by the same clock.
        error: the reason for the failure; `None` if the operation succeeded.
        request: the number of bytes that the caller sent; `None` if not known.
        response: the number of bytes that the caller received; `None` if not known.
        attributes: OpenTelemetry's further attributes.
    """

    trace: str
    span: str
    parent: str
    kind: str
    name: str
    service: str
    site: str
    start: int
    end: int
    error: str | None
    request: int | None
    response: int | None
    attributes: dict[str, Any]


class Writer:
    """The side of the store that belongs to one process. It is used by one thread.

    Args:
        path: the path of the file.
        max_bytes: the greatest size of the file, in bytes.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._pages = max(64, max_bytes // PAGE)
        self._connection: sqlite3.Connection | None = None

    def write(self, spans: Sequence[Span]) -> None:
        """Add spans, and delete others if there is no room for them.

        Raises:
            sqlite3.Error: the file can't be written now; nothing was added.
            OSError: the directory of the file can't be made.
        """
        try:
            self._write(spans)
        except sqlite3.DatabaseError as error:
            self.close()
            if _is_damaged(error):
                _set_aside(self._path)
                self._write(spans)
                return
            raise

    def _write(self, spans: Sequence[Span]) -> None:
        rows = [_row(span) for span in spans]
        connection = self._open()
        for last in (False, False, True):
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(_INSERT, rows)
            except sqlite3.OperationalError as error:
                if last or error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                self._make_room(connection)
            else:
                return

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection = connection
            # Spans may be lost with the power. The journal is truncated, or it would be as large as the largest batch for ever.
            connection.execute(f"PRAGMA page_size={PAGE}")
            _use_wal(connection)
            for pragma in ("synchronous=OFF", "journal_size_limit=1048576", "cache_size=-512"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA max_page_count={self._pages}")
            if not _is_current(connection):
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    if not _is_current(connection):  # another process may have been first
                        for statement in _SCHEMA.split(";"):
                            connection.execute(statement)
                        connection.execute(f"PRAGMA user_version={VERSION}")
        return self._connection

    @staticmethod
    def _make_room(connection: sqlite3.Connection) -> None:
        """Delete the spans that the rule of `room` chooses."""
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            chosen = room.victims(room.Held._make(row) for row in connection.execute(_TRACES))
            connection.executemany(_SHORTEN, [(trace, trace, kept) for trace, kept in chosen.items() if kept])
            connection.executemany("DELETE FROM spans WHERE trace = ?", [(trace,) for trace, kept in chosen.items() if not kept])

    def close(self) -> None:
        """Close the file of the store."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a file to the write-ahead log. SQLite does not wait by itself for another process that does the same.

    Raises:
        sqlite3.OperationalError: the file is locked for longer than `BUSY_S`.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _is_current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == VERSION)


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _set_aside(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.damaged"))


def _row(span: Span) -> tuple[Any, ...]:
    text = json.dumps(span.attributes, separators=(",", ":"), default=str)
    ids = (bytes.fromhex(span.trace), bytes.fromhex(span.span), bytes.fromhex(span.parent) or None)
    client = span.attributes.get(ASKED_BY)
    return (*ids, *span[3:12], text, client if isinstance(client, str) else None)


def _span(row: Sequence[Any]) -> Span:
    trace, span, parent, *rest, attributes = row
    return Span._make((trace.hex(), span.hex(), parent.hex() if parent else "", *rest, json.loads(attributes)))


class DamagedError(Exception):
    """A store that cannot be read; the text names the file and the reason."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store to read it.

    Raises:
        DamagedError: the store is damaged, of another version, or not readable.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in _READABLE:
                raise DamagedError(f"{path} is of version {version}: expected {VERSION}")
            yield connection
    except (sqlite3.Error, ValueError, AttributeError) as error:
        raise DamagedError(f"{path} can't be read: {error}") from None


class Summary(NamedTuple):
    """A summary of the spans that a store has of one trace.

    Attributes:
        trace: the id of the trace.
        spans: the number of spans.
        start: the start of the first span, in nanoseconds since 1970.
        end: the end of the last span, in nanoseconds since 1970.
        errors: the number of spans that failed.
    """

    trace: str
    spans: int
    start: int
    end: int
    errors: int


def summaries(path: Path, limit: int) -> list[Summary]:
    """Return the latest traces of a store, the latest first; none if there is no store.

    Args:
        path: the path of the store.
        limit: the greatest number of traces to return.

    Raises:
        DamagedError: the store can't be read.
    """
    if not path.exists():
        return []
    with _reading(path) as connection:
        if not _has_table(connection):
            return []
        rows = connection.execute(
            "SELECT trace, count(*), min(start), max(end), count(error) FROM spans GROUP BY trace ORDER BY min(start) DESC LIMIT ?",
            (limit,),
        )
        return [Summary(row[0].hex(), *row[1:]) for row in rows]


def traces(path: Path, prefix: str, limit: int = 2) -> list[str]:
    """Return the ids of the traces of a store that begin with some hexadecimal digits, at most `limit`.

    Raises:
        DamagedError: the store can't be read.
    """
    if not path.exists():
        return []
    low, high = (bytes.fromhex(prefix.ljust(32, digit)) for digit in "0f")
    with _reading(path) as connection:
        if not _has_table(connection):
            return []
        found = connection.execute("SELECT DISTINCT trace FROM spans WHERE trace BETWEEN ? AND ? LIMIT ?", (low, high, limit))
        return [row[0].hex() for row in found]


def spans(path: Path, chosen: Iterable[str], limit: int = -1) -> list[Span]:
    """Return the spans of some traces, in the order in which they began.

    Args:
        path: the path of the store.
        chosen: the ids of the traces.
        limit: the greatest number of spans to return of each trace; -1 for all.

    Raises:
        DamagedError: the store can't be read.
    """
    if not path.exists():
        return []
    result: list[Span] = []
    with _reading(path) as connection:
        if not _has_table(connection):
            return []
        for trace in chosen:
            rows = connection.execute(_SELECT, (bytes.fromhex(trace), limit))
            result += map(_span, rows)
    return result


def _has_table(connection: sqlite3.Connection) -> bool:
    """Return whether the store has its table; a file that a writer has just created has none."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'spans'").fetchone() is not None
