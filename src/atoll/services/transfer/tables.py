"""The tables that two databases of different engines with the same schema have in common, and the checks before rows are copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, ForeignKeyConstraint, MetaData, Table, and_, func, select, types

from atoll.services.transfer.errors import TransferError
from atoll.services.transfer.values import Column, column_of

VERSIONS = "alembic_version"
"""The prefix of the names of the tables with the versions of the schema, which upstream's migrations fill."""


@dataclass(frozen=True)
class Pair:
    """A table at both engines.

    Attributes:
        source: the table at the source.
        target: the table at the target.
        columns: the columns that both have.
    """

    source: Table
    target: Table
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """The name of the table, which is the same at both engines."""
        return self.source.name


def pairs(source: Connection, target: Connection) -> list[Pair]:
    """Return the tables whose rows are to be copied, by name.

    Raises:
        TransferError: the versions of the schemas differ, or the source has rows or values for which the target has no place.
    """
    theirs, ours = _reflected(source), _reflected(target)
    _check_versions(source, target, theirs, ours)
    found = []
    for table in theirs.tables.values():
        if table.name.startswith(VERSIONS):
            continue
        if table.name in ours.tables:
            found.append(_pair(source, table, ours.tables[table.name]))
        elif length(source, table):
            raise TransferError(f"the target has no table {table.name}, which has rows at the source")
    return sorted(found, key=lambda pair: pair.name)


def _reflected(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, types.JSON):
                column.type.none_as_null = True  # else NULL would be written as the text `null`
    return metadata


def _check_versions(source: Connection, target: Connection, source_tables: MetaData, target_tables: MetaData) -> None:
    for table in source_tables.tables.values():
        if table.name.startswith(VERSIONS):
            there = _versions(source, table)
            here = _versions(target, target_tables.tables[table.name]) if table.name in target_tables.tables else []
            if there != here:
                message = f"{table.name} is {', '.join(there) or 'empty'} at the source, and {', '.join(here) or 'empty'} at the target"
                raise TransferError(f"the versions of the schema differ: {message}")


def _versions(connection: Connection, table: Table) -> list[str]:
    return sorted(str(row[0]) for row in connection.execute(select(table.c.version_num)))


def length(connection: Connection, table: Table) -> int:
    """Return the number of rows of a table."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _pair(connection: Connection, source: Table, target: Table) -> Pair:
    columns = []
    for column in source.columns:
        if column.name in target.columns:
            columns.append(column_of(column.name, column.type, target.columns[column.name].type))
        elif connection.execute(select(func.count()).select_from(source).where(column.is_not(None))).scalar_one():
            raise TransferError(f"the target has no column {source.name}.{column.name}, which has values at the source")
    return Pair(source, target, tuple(columns))


def check_references(connection: Connection, pairs: list[Pair]) -> None:
    """Check that each foreign key of the target is satisfied by the rows of the source, whose engine may not enforce it.

    Raises:
        TransferError: rows refer to rows that do not exist.
    """
    tables = {pair.name: pair for pair in pairs}
    for pair in pairs:
        for constraint in pair.target.foreign_key_constraints:
            other = tables.get(constraint.referred_table.name)
            count = _dangling(connection, pair.source, constraint, other.source) if other else 0
            if count:
                raise TransferError(f"{count} rows of {pair.name} refer to rows of {constraint.referred_table.name} that do not exist")


def _dangling(connection: Connection, child: Table, constraint: ForeignKeyConstraint, parent: Table) -> int:
    named = list(_columns(constraint))
    if any(mine not in child.columns or theirs not in parent.columns for mine, theirs in named):
        return 0
    other: Any = parent.alias("referred")
    joined = child.outerjoin(other, and_(*(child.c[mine] == other.c[theirs] for mine, theirs in named)))
    given = and_(*(child.c[mine].is_not(None) for mine, _theirs in named))
    query = select(func.count()).select_from(joined).where(given, other.c[named[0][1]].is_(None))
    return int(connection.execute(query).scalar_one())


def _columns(constraint: ForeignKeyConstraint) -> Iterator[tuple[str, str]]:
    for element in constraint.elements:
        yield element.parent.name, element.column.name
