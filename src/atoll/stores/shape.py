"""The shape of a table: its primary key, its unique constraints and its foreign keys."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from atoll.stores.entry import Value
from atoll.stores.query import row, rows


class Unique(NamedTuple):
    """A unique index or constraint."""

    name: str
    columns: tuple[int, ...]
    """Positions of the columns in the table."""
    collations: tuple[str, ...]
    """Collating sequence of each column: values that compare as equal have the same key."""


class Reference(NamedTuple):
    """One column of a foreign key."""

    parent: str
    """Table to which the foreign key refers."""
    theirs: str
    """Name of the column in that table."""
    mine: int
    """Position of the column in the table that has the foreign key."""


class Shape(NamedTuple):
    """The shape of one table; columns are given by their positions."""

    names: tuple[str, ...]
    key: tuple[int, ...]
    """Primary key; empty if the table has none."""
    collations: tuple[str, ...]
    """Collating sequence of each column of the primary key."""
    rowid_alias: str | None
    """Name of the column whose ids SQLite assigns (INTEGER PRIMARY KEY); `None` if the table has none."""
    unique: tuple[Unique, ...]
    refers: tuple[Reference, ...]
    """Columns that refer to other tables."""
    referred: tuple[int, ...]
    """Columns to which other tables refer."""


def fold(value: Value, collation: str) -> Value:
    """Return a canonical form of a value, which is the same for all values that a collating sequence treats as equal."""
    if isinstance(value, str):
        if collation == "NOCASE":
            return "".join(c.lower() if c.isascii() else c for c in value)
        if collation == "RTRIM":
            return value.rstrip(" ")
    return value


def of_table(db: apsw.Connection, table: str) -> Shape:
    """Return the present shape of a table."""
    names: list[str] = []
    key: dict[int, tuple[int, str]] = {}
    for _cid, name, kind, _not_null, _default, order in rows(db, "SELECT * FROM pragma_table_info(?)", (table,)):
        if order:
            key[order] = len(names), kind.upper()
        names.append(name)
    primary = tuple(key[order][0] for order in sorted(key))
    alias = names[primary[0]] if len(primary) == 1 and key[1][1] == "INTEGER" else None
    unique, collations = [], ("BINARY",) * len(primary)
    for _seq, index, is_unique, origin, _partial in rows(db, "SELECT * FROM pragma_index_list(?)", (table,)):
        if not is_unique:
            continue
        columns = rows(db, "SELECT cid, coll FROM pragma_index_xinfo(?) WHERE key", (index,))
        if origin == "pk":
            by_column = dict(columns)
            collations = tuple(by_column.get(column, "BINARY") for column in primary)
        elif any(cid < 0 for cid, _ in columns):  # an index on an expression: all rows share one key
            unique.append(Unique(index, (), ()))
        else:
            unique.append(Unique(index, tuple(cid for cid, _ in columns), tuple(coll for _, coll in columns)))
    refers, referred = _references(db, table, names)
    return Shape(tuple(names), primary, collations, alias, tuple(unique), refers, referred)


def _references(db: apsw.Connection, table: str, names: list[str]) -> tuple[tuple[Reference, ...], tuple[int, ...]]:
    refers, referred = [], set()
    query = """SELECT m.name, f."table", f."from", f."to", f.seq
        FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"""
    folded = {name.casefold(): place for place, name in enumerate(names)}
    for child, parent, mine, theirs, seq in rows(db, query):
        column = theirs
        if column is None:  # the parent's primary key
            found = row(db, "SELECT name FROM pragma_table_info(?) WHERE pk = ?", (parent, seq + 1))
            column = found[0] if found else "rowid"
        if child.casefold() == table.casefold():
            refers.append(Reference(parent, column.casefold(), folded[mine.casefold()]))
        if parent.casefold() == table.casefold() and column.casefold() in folded:
            referred.add(folded[column.casefold()])
    return tuple(refers), tuple(sorted(referred))
