"""Reads records from Keystone's tables and writes them there; all the SQL that `tables` implies.

A record's *content* is a mapping of field to value in which every field of `Table.plain` occurs, and of the others those that are not
None: two contents are equal exactly if the rows say the same.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from atoll.mesh.identity.tables import EXTRA, Key, Many, One, Table, Value, Via, Whole, field_name
from atoll.mesh.record import Json

Content = dict[str, Json]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return f'"{name}"'


def content(table: Table, fields: Mapping[str, Json]) -> Content:
    """The content that a record's fields make; what this version knows nothing of is left out."""
    prefixes = tuple(f"{prefix}." for prefix in table.prefixes)
    found = {name: value for name, value in fields.items() if value is not None and name.startswith(prefixes)}
    return {name: fields.get(name) for name in table.plain} | found


def difference(before: Content, after: Content) -> Content:
    """The fields that have to be written to come from one content to the other."""
    return {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def keys(connection: sqlite3.Connection, table: Table) -> Iterator[Key]:
    """The keys of all rows."""
    yield from connection.execute(f"SELECT {_list(table.key)} FROM {quoted(table.table)}")  # noqa: S608 - names of ours


def read(connection: sqlite3.Connection, table: Table, wanted: Sequence[Key]) -> dict[Key, Content]:
    """The contents of those of some records that are there."""
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


def _add(fields: Content, other: One | Many | Whole, values: list[Value]) -> None:
    match other:
        case One():
            fields.update(zip((field for _, field in other.fields), values, strict=True))
        case Many():
            key = values[: _key_width(other)]
            fields[field_name(other.prefix, key)] = values
        case Whole():
            fields[other.field] = [*(fields[other.field] or []), values]


def _key_width(other: Many) -> int:
    return len(other.key_via.key if other.key_via else other.key)


@cache
def _select(table: Table, columns: tuple[str, ...]) -> str:
    matches = " AND ".join(f"t.{quoted(name)} IS json_extract(k.value, '$[{index}]')" for index, name in enumerate(table.key))
    if table.dead:
        matches += f" AND t.{quoted(table.dead)} IS NULL"
    chosen = _list((*table.key, *columns), "t.")
    return f"SELECT {chosen} FROM json_each(?) k CROSS JOIN {quoted(table.table)} t ON {matches}"  # noqa: S608 - names of ours


@cache
def _select_other(other: One | Many | Whole) -> str:
    via = None if isinstance(other, One) else other.owner_via
    owner, join = (f"v.{quoted(via.integer)}", _join("v", via)) if via else ("k.value", "")
    match other:
        case One():
            chosen, order = _list([column for column, _ in other.fields], "t."), ""
        case Many():
            key = _list(other.key_via.key, "w.") if other.key_via else _list(other.key, "t.")
            chosen, order = ", ".join(filter(None, (key, _list(other.values, "t.")))), ""
        case Whole():
            chosen, order = _list(other.values, "t."), f" ORDER BY {_list(other.order, 't.')}"
    second = ""
    if isinstance(other, Many) and other.key_via:
        second = f" JOIN {quoted(other.key_via.table)} w ON w.{quoted(other.key_via.integer)} = t.{quoted(other.key[0])}"
    return (
        f"SELECT k.value, {chosen} FROM json_each(?) k {join}"  # noqa: S608 - names of ours
        f" CROSS JOIN {quoted(other.table)} t ON t.{quoted(other.owner)} = {owner}{second}{order}"
    )


def _join(alias: str, via: Via) -> str:
    return f"CROSS JOIN {quoted(via.table)} {alias} ON {alias}.{quoted(via.key[0])} = k.value"


def _list(columns: Iterable[str], alias: str = "") -> str:
    return ", ".join(f"{alias}{quoted(column)}" for column in columns)


def typed(table: Table, key: Sequence[str | None]) -> Key:
    """A key with the types of its columns, of texts."""
    return tuple(int(value) if column == "inherited" and value is not None else value for column, value in zip(table.key, key, strict=True))


def delete(connection: sqlite3.Connection, table: Table, key: Key) -> None:
    """Take a record's rows away; the triggers of `outbox` take those of the other tables."""
    connection.execute(f"DELETE FROM {quoted(table.table)} WHERE {_where(table.key)}", key)  # noqa: S608 - names of ours


def purge(connection: sqlite3.Connection, table: Table, before: str) -> None:
    """Take away rows that Keystone calls deleted and keeps.

    Args:
        connection: to the database.
        table: with a column `dead`.
        before: the time of deletion, as SQLite writes times, from which on they stay.
    """
    assert table.dead
    connection.execute(f"DELETE FROM {quoted(table.table)} WHERE {quoted(table.dead)} < ?", (before,))  # noqa: S608 - names of ours


def write(connection: sqlite3.Connection, table: Table, key: Key, before: Content | None, after: Content) -> None:
    """Make a record's rows say what its content says.

    Args:
        connection: in a transaction.
        table: of the record.
        key: of the record.
        before: what the rows say now; None if there are none.
        after: what they shall say.

    Raises:
        sqlite3.Error: the database does not take it.
    """
    changed = after if before is None else difference(before, after)
    main = {name: after[name] for name in table.columns if name in changed}
    if table.extra and (before is None or any(name.startswith(f"{EXTRA}.") for name in changed)):
        main[EXTRA] = json.dumps({row[0]: json.loads(row[1]) for name, row in sorted(after.items()) if name.startswith(f"{EXTRA}.")})
    if before is None:
        if table.dead:
            delete(connection, table, key)
        _insert(connection, table.table, dict(zip(table.key, key, strict=True)) | dict(table.initial) | main)
    elif main:
        _update(connection, table.table, main, table.key, key)
    for other in table.others:
        _write_other(connection, other, key[0], before or {}, after)


def _write_other(connection: sqlite3.Connection, other: One | Many | Whole, owner: Value, before: Content, after: Content) -> None:
    match other:
        case One():
            _write_one(connection, other, owner, before, after)
        case Many():
            prefix = f"{other.prefix}."
            changed = {name: row for name, row in difference(before, after).items() if name.startswith(prefix)}
            for name, row in sorted(changed.items()):
                if (old := before.get(name)) is not None:
                    _delete_row(connection, other, owner, old)
                if row is not None:
                    _insert_row(connection, other, owner, row)
        case Whole():
            if before.get(other.field) != after[other.field]:
                selected, parameters = _owner(other, owner)
                connection.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected}", parameters)  # noqa: S608
                columns, marks = _list((other.owner, *other.values)), _marks(len(other.values))
                statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {marks})"  # noqa: S608 - names of ours
                connection.executemany(statement, [(*parameters, *row) for row in after[other.field] or []])


def _write_one(connection: sqlite3.Connection, other: One, owner: Value, before: Content, after: Content) -> None:
    first = other.fields[0][1]
    row = {column: after[field] for column, field in other.fields} | {column: after[column] for column in other.copies}
    if after[first] is None:
        connection.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = ?", (owner,))  # noqa: S608 - names of ours
    elif before.get(first) is None:
        _insert(connection, other.table, {other.owner: owner} | row)
    elif any(before[name] != after[name] for name in (*(field for _, field in other.fields), *other.copies)):
        _update(connection, other.table, row, (other.owner,), (owner,))


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Json]) -> None:
    statement = f"INSERT INTO {quoted(table)} ({_list(row)}) VALUES ({_marks(len(row))})"  # noqa: S608 - names of ours
    connection.execute(statement, tuple(row.values()))


def _update(connection: sqlite3.Connection, table: str, row: Mapping[str, Json], key: Sequence[str], values: Key) -> None:
    assignments = ", ".join(f"{quoted(column)} = ?" for column in row)
    connection.execute(f"UPDATE {quoted(table)} SET {assignments} WHERE {_where(key)}", (*row.values(), *values))  # noqa: S608


def _insert_row(connection: sqlite3.Connection, other: Many, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(other, owner)
    named, named_parameters = _named(other, row)
    values = row[_key_width(other) :]
    columns = _list((other.owner, *other.key, *other.values))
    marks = "".join(", ?" for _ in values)
    statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {named}{marks})"  # noqa: S608 - names of ours
    connection.execute(statement, (*parameters, *named_parameters, *values))


def _delete_row(connection: sqlite3.Connection, other: Many, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(other, owner)
    named, named_parameters = _named(other, row)
    statement = f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected} AND ({_list(other.key)}) = ({named})"  # noqa: S608
    connection.execute(statement, (*parameters, *named_parameters))


def _owner(other: Many | Whole, owner: Value) -> tuple[str, Key]:
    return _through(other.owner_via, (owner,)) if other.owner_via else ("?", (owner,))


def _named(other: Many, row: list[Value]) -> tuple[str, Key]:
    key = tuple(row[: _key_width(other)])
    return _through(other.key_via, key) if other.key_via else (_marks(len(key)), key)


def _through(via: Via, key: Key) -> tuple[str, Key]:
    return f"(SELECT {quoted(via.integer)} FROM {quoted(via.table)} WHERE {_where(via.key)})", key  # noqa: S608 - names of ours


def _where(columns: Iterable[str]) -> str:
    return " AND ".join(f"{quoted(column)} IS ?" for column in columns)


def _marks(number: int) -> str:
    return ", ".join("?" * number)


def conceal_name(connection: sqlite3.Connection, table: Table, key: Key) -> None:
    """Give a record a name that nobody can have, so that two records may exchange theirs."""
    assert table.name
    one = next((other for other in table.others if isinstance(other, One) and other.fields[0][1] == table.name.field), None)
    where, column = (one.table, one.owner) if one else (table.table, table.key[0])
    _update(connection, where, {"name": f"\0{key[0]}"}, (column,), key)
