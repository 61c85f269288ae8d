"""The replicated document on disk: for each author one whole part, and the parts that came after it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from atoll.mesh.parts import Part

_LOG = logging.getLogger(__name__)

_COMPACT_BYTES = 256 * 1024

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS part (id INTEGER PRIMARY KEY, author TEXT NOT NULL, base INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS part_author ON part (author, id);
"""


class Store:
    """The SQLite file of a document."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Open the file, or create it.

        A damaged file is renamed: the other sites send its content again.

        Args:
            path: the SQLite file, in an existing directory.
            durable: False if no write needs to outlive a crash of the machine.

        Raises:
            OSError, sqlite3.Error: the file can't be opened or created.
        """
        self.path = path
        self._durable = durable
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, full, not allowed: the file itself is sound
                raise
            _LOG.error("%s is damaged (%s): put aside as %s; its content has to come from the other sites", path, error, _put_aside(path))
            self._database = _open(path)
        self._full: dict[str, int] = {}
        self._after: dict[str, int] = {}
        for author, base, size in self._database.execute("SELECT author, base, length(data) FROM part ORDER BY id"):
            self._count(author, base, size)

    def append(self, part: Part, *, durable: bool = True) -> None:
        """Append a part; a whole stream (`base` 0) replaces the earlier parts of its author.

        Args:
            part: the part.
            durable: whether the part is flushed to the disk before the method returns. Otherwise it survives a crash of the process, but a
                crash of the machine only once a later durable part was appended.

        Raises:
            sqlite3.Error: the part could not be written, and is not kept.
        """
        data = part.pack()
        self._database.execute(f"PRAGMA synchronous = {'FULL' if durable and self._durable else 'NORMAL'}")
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            if part.base == 0:
                self._database.execute("DELETE FROM part WHERE author = ?", (part.author,))
            self._database.execute("INSERT INTO part (author, base, data) VALUES (?, ?, ?)", (part.author, part.base, data))
        self._count(part.author, part.base, len(data))

    def grown(self, author: str) -> bool:
        """Return whether to append the whole stream of an author, because the parts since the last whole one have become larger than it."""
        return self._after.get(author, 0) > max(_COMPACT_BYTES, self._full.get(author, 0))

    def authors(self) -> list[str]:
        """Return the authors of all parts."""
        return [author for (author,) in self._database.execute("SELECT DISTINCT author FROM part ORDER BY author")]

    def parts(self, author: str) -> Iterator[Part]:
        """Yield the parts of an author in the order of their arrival.

        Raises:
            Refused: one of the parts is damaged.
        """
        rows = self._database.execute("SELECT CAST(data AS BLOB) FROM part WHERE author = ? ORDER BY id", (author,)).fetchall()
        for (data,) in rows:
            yield Part.unpack(data)

    def close(self) -> None:
        """Close the file of the document."""
        self._database.close()

    def _count(self, author: str, base: int, size: int) -> None:
        if base == 0:
            self._full[author], self._after[author] = size, 0
        else:
            self._after[author] = self._after.get(author, 0) + size


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.executescript(_SCHEMA)
        for (verdict,) in database.execute("PRAGMA quick_check(1)"):
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)  # noqa: TRY301 - as SQLite itself raises
    except BaseException:
        database.close()
        raise
    return database


def _put_aside(path: Path) -> Path:
    aside = next(aside for number in itertools.count(1) if not (aside := path.with_name(f"{path.name}.damaged-{number}")).exists())
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
