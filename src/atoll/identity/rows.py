"""The SQL of the replicated tables: reads records from Keystone's tables, and writes them.

A record's *content* is a mapping of field to value. It has every field of `ReplicatedTable.plain`, and of the others those that are not
None: two contents are equal exactly if the rows are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from atoll.identity.engines.contract import Content, Session
from atoll.identity.tables import EXTRA, IntegerKey, Key, OneRow, ReplicatedTable, RowList, RowPerField, Value, field_name
from atoll.mesh.entry import Json

__all__ = ["Content", "conceal_name", "content", "delete", "difference", "keys", "purge", "quoted", "read", "typed", "write"]

_CONCEALED = "\1"
"""The beginning of a concealed name. PostgreSQL can't store the character NUL."""


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


def keys(session: Session, table: ReplicatedTable) -> Iterator[Key]:
    """Yield the keys of all rows."""
    yield from session.execute(f"SELECT {_list(table.key)} FROM {quoted(table.table)}")


def read(session: Session, table: ReplicatedTable, wanted: Sequence[Key]) -> dict[Key, Content]:
    """Return the contents of the given records that exist."""
    found: dict[Key, Content] = {}
    columns = (*table.columns, EXTRA) if table.extra else table.columns
    chosen = _list((*table.key, *columns), "t.")
    deleted = f" AND t.{quoted(table.deleted_column)} IS NULL" if table.deleted_column else ""
    named = [(name, f"t.{quoted(name)}") for name in table.key]
    for source, condition, parameters in session.several(table.table, named, wanted):
        statement = f"SELECT {chosen} FROM {source}{quoted(table.table)} t WHERE {condition}{deleted}"
        for row in session.execute(statement, parameters):
            key, values = row[: len(table.key)], row[len(table.key) :]
            fields = dict.fromkeys(table.plain) | dict(zip(table.columns, values, strict=False))
            found[key] = fields | (_extra_fields(values[-1]) if table.extra else {})
    owners = [(key[0],) for key in found]
    for other in table.others:
        select, end, (owner_table, owner) = _select_other(other)
        for source, condition, parameters in session.several(owner_table, [owner], owners):
            for owned_by, *rest in session.execute(f"{select} FROM {source}{end.format(condition)}", parameters):
                _add(found[owned_by,], other, rest)
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
def _select_other(other: OneRow | RowPerField | RowList) -> tuple[str, str, tuple[str, tuple[str, str]]]:
    """Return how to select rows of another table: the beginning, the end with a place for a condition, and the column of the owner.

    The tables stand in the order in which SQLite should visit them (CROSS JOIN).
    """
    via = None if isinstance(other, OneRow) else other.owner_via
    owner = (via.table, (via.key[0], f"v.{quoted(via.key[0])}")) if via else (other.table, (other.owner, f"t.{quoted(other.owner)}"))
    tables, joined = [f"{quoted(other.table)} t"], []
    if via:
        tables.insert(0, f"{quoted(via.table)} v")
        joined.append(f"t.{quoted(other.owner)} = v.{quoted(via.integer)}")
    match other:
        case OneRow():
            chosen, order = _list([column for column, _ in other.fields], "t."), ""
        case RowPerField():
            key = _list(other.key_via.key, "w.") if other.key_via else _list(other.key, "t.")
            chosen, order = ", ".join(filter(None, (key, _list(other.values, "t.")))), ""
        case RowList():
            chosen, order = _list(other.values, "t."), f" ORDER BY {_list(other.order, 't.')}"
    if isinstance(other, RowPerField) and other.key_via:
        tables.append(f"{quoted(other.key_via.table)} w")
        joined.append(f"w.{quoted(other.key_via.integer)} = t.{quoted(other.key[0])}")
    where = " AND ".join(["{}", *joined])
    return f"SELECT {owner[1][1]}, {chosen}", f"{' CROSS JOIN '.join(tables)} WHERE {where}{order}", owner


def _list(columns: Iterable[str], alias: str = "") -> str:
    return ", ".join(f"{alias}{quoted(column)}" for column in columns)


def typed(table: ReplicatedTable, key: Sequence[str | None]) -> Key:
    """Convert the values of a key from texts to the types of their columns."""
    return tuple(int(value) if column == "inherited" and value is not None else value for column, value in zip(table.key, key, strict=True))


def delete(session: Session, table: ReplicatedTable, key: Key) -> None:
    """Delete a record's main row; the triggers of the outbox delete its rows in the other tables."""
    condition, parameters = _where(session, table.table, table.key, key)
    session.execute(f"DELETE FROM {quoted(table.table)} WHERE {condition}", parameters)


def purge(session: Session, table: ReplicatedTable, before: str) -> None:
    """Delete rows that Keystone marked as deleted and keeps.

    Args:
        session: an open transaction.
        table: a table with a `deleted_column`.
        before: a time such as `2026-11-30 17:00:00`; rows marked as deleted since then stay.
    """
    assert table.deleted_column
    session.execute(f"DELETE FROM {quoted(table.table)} WHERE {quoted(table.deleted_column)} < ?", (before,))


def write(session: Session, table: ReplicatedTable, key: Key, before: Content | None, after: Content) -> None:
    """Make a record's rows match its content.

    Args:
        session: an open transaction.
        table: the record's table.
        key: the record's key.
        before: the present content; `None` if there are no rows.
        after: the desired content.

    Raises:
        DatabaseError: the database refuses it.
    """
    changed = after if before is None else difference(before, after)
    main = {name: after[name] for name in table.columns if name in changed}
    if table.extra and (before is None or any(name.startswith(f"{EXTRA}.") for name in changed)):
        main[EXTRA] = json.dumps({row[0]: json.loads(row[1]) for name, row in sorted(after.items()) if name.startswith(f"{EXTRA}.")})
    if before is None:
        if table.deleted_column:
            delete(session, table, key)
        _insert(session, table.table, dict(zip(table.key, key, strict=True)) | dict(table.initial) | main)
    elif main:
        _update(session, table.table, main, table.key, key)
    for other in table.others:
        _write_other(session, other, key[0], before or {}, after)


def _write_other(session: Session, other: OneRow | RowPerField | RowList, owner: Value, before: Content, after: Content) -> None:
    match other:
        case OneRow():
            _write_one(session, other, owner, before, after)
        case RowPerField():
            prefix = f"{other.prefix}."
            changed = {name: row for name, row in difference(before, after).items() if name.startswith(prefix)}
            for name, row in sorted(changed.items()):
                if (old := before.get(name)) is not None:
                    _delete_row(session, other, owner, old)
                if row is not None:
                    _insert_row(session, other, owner, row)
        case RowList():
            if before.get(other.field) != after[other.field]:
                selected, parameters = _owner(session, other, owner)
                session.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected}", parameters)
                columns, marks = _list((other.owner, *other.values)), _marks(len(other.values))
                statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {marks})"
                for row in after[other.field] or []:
                    session.execute(statement, (*parameters, *_stored(session, other.table, other.values, row)))


def _write_one(session: Session, other: OneRow, owner: Value, before: Content, after: Content) -> None:
    first = other.fields[0][1]
    row = {column: after[field] for column, field in other.fields} | {column: after[column] for column in other.copies}
    if after[first] is None:
        session.execute(f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = ?", (owner,))
    elif before.get(first) is None:
        _insert(session, other.table, {other.owner: owner} | row)
    elif any(before[name] != after[name] for name in (*(field for _, field in other.fields), *other.copies)):
        _update(session, other.table, row, (other.owner,), (owner,))


def _insert(session: Session, table: str, row: Mapping[str, Json]) -> None:
    statement = f"INSERT INTO {quoted(table)} ({_list(row)}) VALUES ({_marks(len(row))})"
    session.execute(statement, _stored(session, table, row.keys(), row.values()))


def _update(session: Session, table: str, row: Mapping[str, Json], key: Sequence[str], values: Key) -> None:
    assignments = ", ".join(f"{quoted(column)} = ?" for column in row)
    condition, parameters = _where(session, table, key, values)
    statement = f"UPDATE {quoted(table)} SET {assignments} WHERE {condition}"
    session.execute(statement, (*_stored(session, table, row.keys(), row.values()), *parameters))


def _insert_row(session: Session, other: RowPerField, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(session, other, owner)
    named, named_parameters = _named(session, other, row)
    values = _stored(session, other.table, other.values, row[_key_width(other) :])
    columns = _list((other.owner, *other.key, *other.values))
    marks = "".join(", ?" for _ in values)
    statement = f"INSERT INTO {quoted(other.table)} ({columns}) VALUES ({selected}, {named}{marks})"
    session.execute(statement, (*parameters, *named_parameters, *values))


def _delete_row(session: Session, other: RowPerField, owner: Value, row: list[Value]) -> None:
    selected, parameters = _owner(session, other, owner)
    named, named_parameters = _named(session, other, row)
    statement = f"DELETE FROM {quoted(other.table)} WHERE {quoted(other.owner)} = {selected} AND ({_list(other.key)}) = ({named})"
    session.execute(statement, (*parameters, *named_parameters))


def _owner(session: Session, other: RowPerField | RowList, owner: Value) -> tuple[str, Key]:
    return _through(session, other.owner_via, (owner,)) if other.owner_via else ("?", (owner,))


def _named(session: Session, other: RowPerField, row: list[Value]) -> tuple[str, Key]:
    key = tuple(row[: _key_width(other)])
    return _through(session, other.key_via, key) if other.key_via else (_marks(len(key)), key)


def _through(session: Session, via: IntegerKey, key: Key) -> tuple[str, Key]:
    condition, parameters = _where(session, via.table, via.key, key)
    return f"(SELECT {quoted(via.integer)} FROM {quoted(via.table)} WHERE {condition})", parameters


def _where(session: Session, table: str, columns: Sequence[str], values: Key) -> tuple[str, Key]:
    """Return a condition for the row with these values, and its parameters. None equals NULL."""
    conditions = [f"{quoted(column)} {'IS NULL' if value is None else '= ?'}" for column, value in zip(columns, values, strict=True)]
    given = [(column, value) for column, value in zip(columns, values, strict=True) if value is not None]
    return " AND ".join(conditions), _stored(session, table, [column for column, _ in given], [value for _, value in given])


def _stored(session: Session, table: str, columns: Iterable[str], values: Iterable[Json]) -> Key:
    return tuple(session.stored(table, column, value) for column, value in zip(columns, values, strict=True))


def _marks(number: int) -> str:
    return ", ".join("?" * number)


def conceal_name(session: Session, table: ReplicatedTable, key: Key) -> None:
    """Give a record a name that no other can have, so that two records may exchange their names."""
    assert table.name
    one = next((other for other in table.others if isinstance(other, OneRow) and other.fields[0][1] == table.name.field), None)
    where, column = (one.table, one.owner) if one else (table.table, table.key[0])
    _update(session, where, {"name": f"{_CONCEALED}{key[0]}"[: table.name.length]}, (column,), key)
