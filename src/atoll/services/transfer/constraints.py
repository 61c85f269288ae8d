"""Foreign keys and sequences at the target of a copy: rows arrive in any order, and later rows get new ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Integer, Table, func, select, text

_KEYS = """
select conrelid::regclass::text, quote_ident(conname) from pg_constraint
where contype = 'f' and not condeferrable and connamespace = current_schema()::regnamespace
"""


@contextmanager
def deferred(connection: Connection) -> Iterator[None]:
    """Let foreign keys be unsatisfied within the block, which is in one transaction.

    PostgreSQL checks them when the block ends. MariaDB and SQLite do not check them at all: see `tables.check_references`.
    """
    if connection.dialect.name == "postgresql":
        keys = [(table, name) for table, name in connection.execute(text(_KEYS))]
        for table, name in keys:
            connection.execute(text(f"alter table {table} alter constraint {name} deferrable initially deferred"))
        yield
        connection.execute(text("set constraints all immediate"))
        for table, name in keys:
            connection.execute(text(f"alter table {table} alter constraint {name} not deferrable"))
        return
    if connection.dialect.name in {"mysql", "mariadb"}:
        connection.execute(text("set session foreign_key_checks = 0"))
        # Without the second, a row with the id 0 would get another id.
        connection.execute(text("set session sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO')"))
    yield


def advance_sequences(connection: Connection, table: Table) -> None:
    """Set the sequences of a table at PostgreSQL beyond its greatest ids; the other engines derive the next id from the rows."""
    if connection.dialect.name != "postgresql":
        return
    quote = connection.dialect.identifier_preparer.quote_identifier
    for column in table.columns:
        if isinstance(column.type, Integer):
            owned = func.pg_get_serial_sequence(quote(table.name), column.name)
            sequence = connection.execute(select(owned)).scalar()
            if sequence:
                following = func.greatest(func.coalesce(func.max(column), 0), 0) + 1
                connection.execute(select(func.setval(sequence, following, False)).select_from(table))
