"""The SQL of the replicated tables: reads records from Keystone's tables, and writes them.

A record's *content* is a mapping of field to value. It has every field of `ReplicatedTable.plain`, and of the others those that are not
None: two contents are equal exactly if the rows are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from atoll.identity.tables import EXTRA, IntegerKey, Key, OneRow, ReplicatedTable, RowList, RowPerField, Value, field_name
from atoll.mesh.entry import Json

Content = dict[str, Json]


def quoted(name: str) -> str:
    """Return a name, quoted as an SQL identifier."""
    return f'"{name}"'


def content(table: ReplicatedTable, fields: Mapping[str, Json]) -> Content:
    """Return the content that corresponds to a record's fields, without fields that this version does not know."""
    prefixes = tuple(f"{prefix}." for prefix in table.prefixes)
    found = {name: value for name, value in fields.items() if value is not None and name.startswith(prefixes)}
    return {name: fields.get(name) for name in table.plain} | found


def difference(before: Content, after: Content) -> Content:
    """Return the fields whose new values turn one content into the other."""
    return {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def keys(connection: sqlite3.Connection, table: ReplicatedTable) -> Iterator[Key]:
    """Yield the keys of all rows."""
    yield from connection.execute(f"SELECT {_list(table.key)} FROM {quoted(table.table)}")


def read(connection: sqlite3.Connection, table: ReplicatedTable, wanted: Sequence[Key]) -> dict[Key, Content]:
    """Return the contents of the given records that exist."""
    found: dict[Key, Content] = {}
    columns = (*table.columns, EXTRA) if table.extra else table.columns
    several = json.dumps([list(key) for key in wanted])
    for row in connection.execute(_select(table, columns), (several,)):
        key, values = row[: len(table.key)], row[len(table.key) :]
        fields = dict.fromkeys(table.plain) | dict(zip(table.columns, values, strict=False))
        found[key] = fields | (_extra_fields(values[-1]) if table.extra else {})
    owners = json.dumps([key[0] for key in found])
    for other in table.others:
        for owner, *values in connection.execute(_select_other(other), (owners,)):
            _add(found[owner,], other, values)
    return found


def _extra_fields(text: str | None) -> Content:
    return {field_name(EXTRA, (name,)): [name, json.dumps(value, sort_keys=True)] for name, value in json.loads(text or "{}").items()}


def _add(fields: Content, other: OneRow | RowPerField | RowList, values: list[Value]) -> None:
    match other:
        case OneRow():
            fields.update(zip((field for _, field in other.fields), values, strict=True))
        case RowPerField():
            key = values[: _key_width(other)]
            fields[field_name(other.prefix, key)] = values
        case RowList():
            fields[other.field] = [*(fields[other.field] or []), values]


def _key_width(other: RowPerField) -> int:
    return len(other.key_via.key if other.key_via else other.key)


@cache
def _select(table: ReplicatedTable, columns: tuple[str, ...]) -> str:
    matches = " AND ".join(f"t.{quoted(name)} IS json_extract(k.value, '$[{index}]')" for index, name in enumerate(table.key))
    if table.deleted_column:
        matches += f" AND t.{quoted(table.deleted_column)} IS NULL"
    chosen = _list((*table.key, *columns), "t.")
    return f"SELECT {chosen} FROM json_each(?) k CROSS JOIN {quoted(table.table)} t ON {matches}"


@cache
def _select_other(other: OneRow | RowPerField | RowList) -> str:
    via = None if isinstance(other, OneRow) else other.owner_via
    owner, join = (f"v.{quoted(via.integer)}", _join("v", via)) if via else ("k.value", "")
    match other:
        case OneRow():
            chosen, order = _list([column for column, _ in other.fields], "t."), ""
        case RowPerField():
            key = _list(other.key_via.key, "w.") if other.key_via else _list(other.key, "t.")
            chosen, order = ", ".join(filter(None, (key, _list(other.values, "t.")))), ""
        case RowList():
            chosen, order = _list(other.values, "t."), f" ORDER BY {_list(other.order, 't.')}"
    second = ""
    if isinstance(other, RowPerField) and other.key_via:
        second = f" JOIN {quoted(other.key_via.table)} w ON w.{quoted(other.key_via.integer)} = t.{quoted(other.key[0])}"
    return (
        f"SELECT k.value, {chosen} FROM json_each(?) k {join}"
        f" CROSS JOIN {quoted(other.table)} t ON t.{quoted(other.owner)} = {owner}{second}{order}"
    )


def _join(alias: str, via: IntegerKey) -> str:
    return f"CROSS JOIN {quoted(via.table)} {alias} ON {alias}.{quoted(via.key[0])} = k.value"


def _list(columns: Iterable[str], alias: str = "") -> str:
    return ", ".join(f"{alias}{quoted(column)}" for column in columns)


def typed(table: ReplicatedTable, key: Sequence[str | None]) -> Key:
    """Convert the values of a key from texts to the types of their columns."""
    return tuple(int(value) if column == "inherited" and value is not None else value for column, value in zip(table.key, key, strict=True))


def delete(connection: sqlite3.Connection, table: ReplicatedTable, key: Key) -> None:
    """Delete a record's main row; the triggers of `outbox` delete its rows in the other tables."""
    connection.execute(f"DELETE FROM {quoted(table.table)} WHERE {_where(table.key)}", key)


def purge(connection: sqlite3.Connection, table: ReplicatedTable, before: str) -> None:
    """Delete rows that Keystone marked as deleted and keeps.

    Args:
        connection: a connection to the database.
        table: a table with a `deleted_column`.
        before: a time in SQLite's format; rows marked as deleted since then stay.
    """
    assert table.deleted_column
    connection.execute(f"DELETE FROM {quoted(table.table)} WHERE {quoted(table.deleted_column)} < ?", (before,))


def write(connection: sqlite3.Connection, table: ReplicatedTable, key: Key, before: Content | None, after: Content) -> None:
    """Make a record's rows match its content.

    Args:
        connection: a connection that is in a transaction.
        table: the record's table.
        key: the record's key.
        before: the present content; `None` if there are no rows.
        after: the desired content.

    Raises:
        sqlite3.Error: the database refuses it.
    """
    changed = after if before is None else difference(before, after)
    main = {name: after[name] for name in table.columns if name in changed}
    if table.extra and (before is None or any(name.startswith(f"{EXTRA}.") for name in changed)):
        main[EXTRA] = json.dumps({row[0]: json.loads(row[1]) for name, row in sorted(after.items()) if name.startswith(f"{EXTRA}.")})
    if before is None:
        if table.deleted_column:
            delete(connection, table, key)
        _insert(connection, table.table, dict(zip(table.key, key, strict=True)) | dict(table.initial) | main)
    elif main:
        _update(connection, table.table, main, table.key, key)
    for other in table.others:
        _write_other(connection, other, key[0], before or {}, after)


def _write_other(
    connection: sqlite3.Connection, other: OneRow | RowPerField | RowList, owner: Value, before: Content, after: Content
) -> None:
    match other:
        case OneRow():
            _write_one(connection, other, owner, before, after)
        case RowPerField():
            prefix = f"{other.prefix}."
            changed = {name: row for name, row in difference(before, after).items() if name.startswith(prefix)}
            for name, row in sorted(changed.items()):
                if (old := before.get(name)) is not None:
                    _delete_row(connection, other, owner, old)
                if row is not None:
                    _insert_row(connection, other, owner, row)
        case RowList():
            if before.get(other.field) != after[other.field]:
                selected, parameters = _owner(other, owner)
                connection.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected}", parameters)
                columns, marks = _list((other.owner, *other.values)), _marks(len(other.values))
                statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {marks})"
                connection.executemany(statement, [(*parameters, *row) for row in after[other.field] or []])


def _write_one(connection: sqlite3.Connection, other: OneRow, owner: Value, before: Content, after: Content) -> None:
    first = other.fields[0][1]
    row = {column: after[field] for column, field in other.fields} | {column: after[column] for column in other.copies}
    if after[first] is None:
        connection.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = ?", (owner,))
    elif before.get(first) is None:
        _insert(connection, other.table, {other.owner: owner} | row)
    elif any(before[name] != after[name] for name in (*(field for _, field in other.fields), *other.copies)):
        _update(connection, other.table, row, (other.owner,), (owner,))


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Json]) -> None:
    statement = f"INSERT INTO {quoted(table)} ({_list(row)}) VALUES ({_marks(len(row))})"
    connection.execute(statement, tuple(row.values()))


def _update(connection: sqlite3.Connection, table: str, row: Mapping[str, Json], key: Sequence[str], values: Key) -> None:
    assignments = ", ".join(f"{quoted(column)} = ?" for column in row)
    connection.execute(f"UPDATE {quoted(table)} SET {assignments} WHERE {_where(key)}", (*row.values(), *values))


def _insert_row(connection: sqlite3.Connection, other: RowPerField, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(other, owner)
    named, named_parameters = _named(other, row)
    values = row[_key_width(other) :]
    columns = _list((other.owner, *other.key, *other.values))
    marks = "".join(", ?" for _ in values)
    statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {named}{marks})"
    connection.execute(statement, (*parameters, *named_parameters, *values))


def _delete_row(connection: sqlite3.Connection, other: RowPerField, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(other, owner)
    named, named_parameters = _named(other, row)
    statement = f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected} AND ({_list(other.key)}) = ({named})"
    connection.execute(statement, (*parameters, *named_parameters))


def _owner(other: RowPerField | RowList, owner: Value) -> tuple[str, Key]:
    return _through(other.owner_via, (owner,)) if other.owner_via else ("?", (owner,))


def _named(other: RowPerField, row: list[Value]) -> tuple[str, Key]:
    key = tuple(row[: _key_width(other)])
    return _through(other.key_via, key) if other.key_via else (_marks(len(key)), key)


def _through(via: IntegerKey, key: Key) -> tuple[str, Key]:
    return f"(SELECT {quoted(via.integer)} FROM {quoted(via.table)} WHERE {_where(via.key)})", key


def _where(columns: Iterable[str]) -> str:
    return " AND ".join(f"{quoted(column)} IS ?" for column in columns)


def _marks(number: int) -> str:
    return ", ".join("?" * number)


def conceal_name(connection: sqlite3.Connection, table: ReplicatedTable, key: Key) -> None:
    """Give a record a name that no other can have, so that two records may exchange their names."""
    assert table.name
    one = next((other for other in table.others if isinstance(other, OneRow) and other.fields[0][1] == table.name.field), None)
    where, column = (one.table, one.owner) if one else (table.table, table.key[0])
    _update(connection, where, {"name": f"\0{key[0]}"}, (column,), key)
