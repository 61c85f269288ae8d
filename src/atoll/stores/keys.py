"""Keys of a transaction's changes: the digests by which the log checks the transaction for conflicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import apsw

from atoll.stores import entry
from atoll.stores.entry import ANY, SCHEMA, Segment, Value
from atoll.stores.query import row
from atoll.stores.shape import Shape, fold


class Footprint(NamedTuple):
    """The keys that a transaction writes, and those that it relies on."""

    writes: set[bytes]
    """Keys of the rows, unique values and tables that the transaction wrote."""
    relies: set[bytes]
    """Keys that no other site may have written since the transaction began."""


Row = tuple[Any, ...]


def row_key(table: str, shape: Shape, values: Iterable[Value]) -> bytes:
    """Return the key of a row, by the values of its primary key."""
    collations = shape.collations or ("BINARY",)
    return entry.key(table, "row", [fold(value, collation) for value, collation in zip(values, collations, strict=True)])


def of_changes(db: apsw.Connection, segments: Iterable[Segment], shapes: Mapping[str, Shape], *, foreign_keys: bool) -> Footprint:
    """Return the keys of a transaction's changes. The transaction must still be open on `db`, from which unchanged columns are read.

    Args:
        db: the connection.
        segments: the transaction's changes.
        shapes: the tables' shapes.
        foreign_keys: whether SQLite enforces foreign keys. If so, inserting a row conflicts with deleting the row to which it refers.
    """
    keys = Footprint(set(), {SCHEMA})
    for kind, what in segments:
        if kind == "d":
            return Footprint({SCHEMA}, {SCHEMA, ANY})
        for change in apsw.Changeset.iter(what):
            _add(keys, db, change, shapes[change.name], foreign_keys=foreign_keys)
    return keys


def _add(keys: Footprint, db: apsw.Connection, change: apsw.TableChange, shape: Shape, *, foreign_keys: bool) -> None:
    table = change.name
    old: Row | None = change.old
    new: Row | None = change.new
    identity = [(old or new or ())[column] for column in shape.key or (0,)]
    keys.writes.add(entry.key(table, ""))
    both = {row_key(table, shape, identity)}
    if not shape.key:  # in a changeset of a table without primary key, SQLite puts the rowid before the columns
        old, new = old and old[1:], new and new[1:]
    if old and new and (shape.unique or foreign_keys):
        old, new = _complete(db, table, shape, identity, old)
    for unique in shape.unique:
        for version in (old, new):
            values = [version[column] for column in unique.columns] if version else [None]
            if None not in values:
                folded = [fold(value, collation) for value, collation in zip(values, unique.collations, strict=True)]
                both.add(entry.key(table, unique.name, folded))
    if foreign_keys:
        _add_references(keys, table, shape, old, new)
    keys.writes.update(both)
    keys.relies.update(both)


def _complete(db: apsw.Connection, table: str, shape: Shape, identity: list[Any], old: Row) -> tuple[Row | None, Row | None]:
    """Return the whole row before and after an update, because the changeset contains only the columns that differ.

    If a later change of the transaction deleted the row, only the columns in the changeset are returned: the later change has the others.
    """
    where = " AND ".join(f'"{shape.names[column]}" IS ?' for column in shape.key) or "rowid = ?"
    now: Row | None = row(db, f'SELECT * FROM "{table}" WHERE {where}', identity)
    if now is None:
        return tuple(None if value is apsw.no_change else value for value in old), None
    return tuple(present if value is apsw.no_change else value for value, present in zip(old, now, strict=False)), now


def _add_references(keys: Footprint, table: str, shape: Shape, old: Row | None, new: Row | None) -> None:
    """Add the keys by which a row that refers to another row conflicts with a deletion of that row, or a change of its key."""
    if new:
        for reference in shape.refers:
            value = new[reference.mine]
            if value is not None:
                keys.writes.add(entry.key(reference.parent, f"reference {reference.theirs}", [value]))
                keys.relies.add(entry.key(reference.parent, f"end {reference.theirs}", [value]))
    if old:
        for column in shape.referred:
            if new is None or new[column] != old[column]:
                name = shape.names[column].casefold()
                keys.writes.add(entry.key(table, f"end {name}", [old[column]]))
                keys.relies.add(entry.key(table, f"reference {name}", [old[column]]))
