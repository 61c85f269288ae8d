"""Copies and compares all rows of a database."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, text

from atoll.services.transfer.constraints import advance_sequences, deferred
from atoll.services.transfer.errors import TransferError
from atoll.services.transfer.tables import Pair, length

BATCH = 500
"""Number of rows that are read and written at a time. A higher number takes more memory, a lower one more round trips."""

OnTable = Callable[[str], None]
"""A callback that receives the name of each table before its rows are copied."""


def copy(source: Connection, target: Connection, pairs: Sequence[Pair], on_table: OnTable) -> None:
    """Replace all rows of the target by those of the source, in the open transaction of the target.

    Raises:
        TransferError: a value has no equivalent at the target.
        SQLAlchemyError: an engine fails, or refuses a row.
    """
    with deferred(target):
        _empty(target, [pair.target for pair in pairs])
        for pair in pairs:
            on_table(pair.name)
            for batch in _batches(source, pair.source, pair):
                target.execute(insert(pair.target), [_stored(pair, row) for row in batch])
            advance_sequences(target, pair.target)


def differences(source: Connection, target: Connection, pairs: Sequence[Pair]) -> Iterator[tuple[str, int]]:
    """Yield, for each table that differs, its name and the number of rows that one side has and the other lacks."""
    for pair in pairs:
        theirs, ours = _digests(source, pair, of_target=False), _digests(target, pair, of_target=True)
        if theirs != ours:
            yield pair.name, max((theirs - ours).total(), (ours - theirs).total())


def same(source: Connection, target: Connection, pairs: Sequence[Pair]) -> bool:
    """Return whether both sides have the same rows; tables of different lengths are detected without reading their rows."""
    if any(length(source, pair.source) != length(target, pair.target) for pair in pairs):
        return False
    return next(differences(source, target, pairs), None) is None


def count(connection: Connection, pairs: Sequence[Pair]) -> int:
    """Return the number of rows of the source's tables."""
    return sum(length(connection, pair.source) for pair in pairs)


def _empty(connection: Connection, tables: Sequence[Table]) -> None:
    if connection.dialect.name == "postgresql" and tables:
        quote = connection.dialect.identifier_preparer.quote_identifier
        connection.execute(text(f"truncate {', '.join(quote(table.name) for table in tables)} cascade"))
        return
    for table in tables:
        connection.execute(delete(table))


def _batches(connection: Connection, table: Table, pair: Pair) -> Iterator[Sequence[Any]]:
    query = select(*(table.c[column.name] for column in pair.columns)).execution_options(yield_per=BATCH)
    with connection.execute(query) as found:
        yield from found.partitions()


def _stored(pair: Pair, row: Sequence[Any]) -> dict[str, Any]:
    values = {}
    for column, value in zip(pair.columns, row, strict=True):
        try:
            values[column.name] = column.stored(value)
        except (ValueError, TypeError) as error:
            raise TransferError(f"{pair.name}.{column.name} has a value that is no {column.kind}: {error}") from None
    return values


def _digests(connection: Connection, pair: Pair, *, of_target: bool) -> Counter[bytes]:
    """Return the digests of all rows: the engines order text differently, so rows are compared without an order."""
    found: Counter[bytes] = Counter()
    for batch in _batches(connection, pair.target if of_target else pair.source, pair):
        found.update(_digest(pair, row, of_target=of_target) for row in batch)
    return found


def _digest(pair: Pair, row: Sequence[Any], *, of_target: bool) -> bytes:
    try:
        values = [column.canonical(value, of_target=of_target) for column, value in zip(pair.columns, row, strict=True)]
    except (ValueError, TypeError) as error:
        raise TransferError(f"{pair.name} has a value whose type is not its column's: {error}") from None
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16).digest()
