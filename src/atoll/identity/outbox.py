"""The outbox: a table, filled by triggers, of changes to Keystone's tables that are not in the replicated document yet.

A trigger writes in the writer's own transaction, whether that is Keystone's mapper, one of its bulk statements, `keystone-manage` or an
administrator at an SQL prompt: every committed change is in the outbox, and every change in the outbox is committed. Events of SQLAlchemy
would miss bulk deletions, and other processes' changes.

Other triggers carry out cascades: the deletion of a record deletes its rows in all tables, also where the engine does not enforce
Keystone's foreign keys. Otherwise, bulk deletions would leave dependent rows behind, such as the roles of an application credential. The
next credential could get the same integer key, and with it those roles.

This module defines which changes are captured, and reads and empties the outbox. The triggers themselves are in `engines`, because each
engine has its own language for triggers. A second table, `atoll_applied`, has the content of each record on which document and tables last
agreed. Both tables have the same columns at every engine, so a move to another engine copies them like any other table.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from atoll.identity.engines.contract import Content, Session
from atoll.identity.tables import KINDS, IntegerKey, Key, OneRow, RowList, RowPerField, decode, encode

TABLES = ("atoll_outbox", "atoll_applied")

ALL = 2**63 - 1
"""A limit for `pending` that no outbox reaches, and that every engine accepts."""

_AT_ONCE = 500
"""Greatest number of entries that one statement deletes."""


@dataclass(frozen=True)
class Capture:
    """The changes of one table that a trigger records.

    Attributes:
        kind: the kind of the records that the rows belong to.
        table: the table.
        key: the columns with the record's key; of a row that refers to another table by an integer, the column with that integer.
        columns: the columns whose changes matter.
        via: the other table, which has the record's key; `None` if the row itself has it.
        inserts_only: True if updates and deletions are not captured.
    """

    kind: str
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    via: IntegerKey | None = None
    inserts_only: bool = False


@dataclass(frozen=True)
class Cascade:
    """A cascade: the deletion of rows together with the row of another table to which they belong.

    Attributes:
        table: the table with the dependent rows.
        columns: its columns that refer to the other table.
        parent: the other table.
        parent_columns: the columns of the other table.
    """

    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


def captures() -> Iterator[Capture]:
    """Yield the changes that the triggers record, one item for each table."""
    for kind, table in KINDS.items():
        extra = ("extra",) if table.extra else ()
        deleted = (table.deleted_column,) if table.deleted_column else ()
        columns = (*table.key, *table.columns, *extra, *deleted)
        yield Capture(kind, table.table, table.key, columns, inserts_only=table.deleted_locally)
        for other in table.others:
            yield Capture(kind, other.table, (other.owner,), _columns(other), _via(other))


def cascades() -> Iterator[Cascade]:
    """Yield the tables whose rows belong to records of other tables."""
    for table in KINDS.values():
        for other in table.others:
            via = _via(other)
            parent, column = (via.table, via.integer) if via else (table.table, table.key[0])
            yield Cascade(other.table, (other.owner,), parent, (column,))


def indexes() -> list[tuple[str, str]]:
    """Return the tables and columns that need an index, by which the triggers find rows."""
    found = {(via.table, via.key[0]) for table in KINDS.values() for other in table.others if (via := _via(other))}
    return sorted(found | {(other.table, other.owner) for table in KINDS.values() for other in table.others})


def fingerprint(statements: Iterable[str]) -> str:
    """Return a digest of the statements that install an outbox, by which an engine recognises that they have been executed."""
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]


def _columns(other: OneRow | RowPerField | RowList) -> tuple[str, ...]:
    if isinstance(other, OneRow):
        return (other.owner, *(column for column, _ in other.fields), *other.copies)
    return (other.owner, *(other.key if isinstance(other, RowPerField) else ()), *other.values)


def _via(other: OneRow | RowPerField | RowList) -> IntegerKey | None:
    return None if isinstance(other, OneRow) else other.owner_via


def entries(session: Session) -> Iterator[tuple[int, str, Key]]:
    """Yield the number, kind and key of all entries, in the order of their numbers."""
    for number, kind, key in session.execute('SELECT number, kind, "key" FROM atoll_outbox ORDER BY number'):
        yield number, kind, session.canonical(json.loads(key))


class Pending(NamedTuple):
    """The oldest entries of the outbox.

    Attributes:
        keys: the keys by kind, each once.
        numbers: the numbers of the entries, for `forget`.
        more: whether there may be further entries.
    """

    keys: dict[str, list[Key]]
    numbers: Collection[int]
    more: bool


def pending(session: Session, limit: int) -> Pending:
    """Return at most `limit` of the oldest entries."""
    found: defaultdict[str, dict[Key, None]] = defaultdict(dict)
    oldest = list(session.execute('SELECT number, kind, "key" FROM atoll_outbox ORDER BY number LIMIT ?', (limit,)))
    for _, kind, key in oldest:
        found[kind][session.canonical(json.loads(key))] = None
    keys = {kind: list(found[kind]) for kind in KINDS if kind in found}
    return Pending(keys, frozenset(entry[0] for entry in oldest), len(oldest) == limit)


def forget(session: Session, numbers: Collection[int]) -> None:
    """Remove the entries with these numbers.

    Another transaction may have got lower numbers than these and committed later. So entries are removed by their own numbers, not up to a
    number.
    """
    every = sorted(numbers)
    for start in range(0, len(every), _AT_ONCE):
        some = every[start : start + _AT_ONCE]
        session.execute(f"DELETE FROM atoll_outbox WHERE number IN ({', '.join('?' * len(some))})", some)


def applied(session: Session, kind: str, keys: Sequence[Key]) -> dict[Key, Content]:
    """Return the contents on which document and tables last agreed, for the given records that existed then."""
    names = {encode(key): key for key in keys}
    found: dict[Key, Content] = {}
    for source, condition, parameters in session.several("atoll_applied", [("key", 'a."key"')], [(name,) for name in names]):
        statement = f'SELECT a."key", a.content FROM {source}atoll_applied a WHERE {condition} AND a.kind = ?'
        found |= {names[name]: json.loads(text) for name, text in session.execute(statement, (*parameters, kind))}
    return found


def agreed_keys(session: Session, kind: str) -> list[tuple[str | None, ...]]:
    """Return the keys of the records of a kind on which document and tables have agreed, as texts."""
    return [decode(name) for (name,) in list(session.execute('SELECT "key" FROM atoll_applied WHERE kind = ?', (kind,)))]


def agree(session: Session, kind: str, key: Key, agreed: Content | None) -> None:
    """Record the content on which document and tables agree now; `None` if the record does not exist."""
    name = encode(key)
    session.execute('DELETE FROM atoll_applied WHERE kind = ? AND "key" = ?', (kind, name))
    if agreed is not None:
        session.execute('INSERT INTO atoll_applied (kind, "key", content) VALUES (?, ?, ?)', (kind, name, json.dumps(agreed)))
