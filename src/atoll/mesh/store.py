"""The replicated document on disk: of each author one part that is all, and the parts that came after it."""

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
    """The file."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Open it, or make it.

        A file that is damaged is put aside: what it held comes back from the other sites.

        Args:
            path: of the SQLite file; its directory must be there.
            durable: False if nothing need outlive a crash of the machine.

        Raises:
            OSError, sqlite3.Error: there can be no such file.
        """
        self.path = path
        self._durable = durable
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, full, not allowed: nothing is wrong with the file
                raise
            _LOG.error("%s is damaged (%s): put aside as %s; its content has to come from the other sites", path, error, _put_aside(path))
            self._database = _open(path)
        self._full: dict[str, int] = {}
        self._after: dict[str, int] = {}
        for author, base, size in self._database.execute("SELECT author, base, length(data) FROM part ORDER BY id"):
            self._count(author, base, size)

    def append(self, part: Part, *, durable: bool = True) -> None:
        """Keep a part; one that is all (`base` 0) replaces what there was of its author.

        Args:
            part: what came.
            durable: it outlives a crash of the machine; otherwise only one of the process, until the next that is durable.

        Raises:
            sqlite3.Error: it could not be written, and is not kept.
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
        """Whether it is time to append all of an author, since what came after the last time has become the larger part."""
        return self._after.get(author, 0) > max(_COMPACT_BYTES, self._full.get(author, 0))

    def authors(self) -> list[str]:
        """Of whom there is anything."""
        return [author for (author,) in self._database.execute("SELECT DISTINCT author FROM part ORDER BY author")]

    def parts(self, author: str) -> Iterator[Part]:
        """The parts of an author in the order in which they came.

        Raises:
            Refused: one of them is damaged.
        """
        rows = self._database.execute("SELECT CAST(data AS BLOB) FROM part WHERE author = ? ORDER BY id", (author,)).fetchall()
        for (data,) in rows:
            yield Part.unpack(data)

    def close(self) -> None:
        """Close the file."""
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
                raise sqlite3.DatabaseError(verdict)  # noqa: TRY301 - as SQLite does where it notices by itself
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
