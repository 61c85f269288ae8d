"""The transfer of one database: rows, comparison, and for Redis the log that begins with them.

A kill at any moment leaves the source as it was. At the target, the rows of a database are written in one transaction, so it has all of
them or none. A database that equals the source already is not copied again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.pool import NullPool

from atoll.files import flush, make_directory, write_private
from atoll.identity import engines
from atoll.services import database_files, database_servers, places
from atoll.services.contract import Settings
from atoll.services.database_urls import MARIADB, POSTGRESQL, REDIS
from atoll.services.transfer import rows, schema, tables
from atoll.services.transfer.errors import TransferError
from atoll.services.transfer.rows import OnTable
from atoll.stores.errors import StoreError

ENFORCING = frozenset({MARIADB, POSTGRESQL})
"""The engines that enforce foreign keys for all services."""


@dataclass(frozen=True)
class Copied:
    """The result of a transfer.

    Attributes:
        tables: the number of tables.
        rows: the number of rows.
        copied: False if the target had these rows already.
    """

    tables: int
    rows: int
    copied: bool


def transfer(source: Settings, target: Settings, name: str, on_table: OnTable = lambda _table: None) -> Copied:
    """Copy a database from the source to the target, whose schema exists, and compare all rows.

    Args:
        source: the settings of the site with its present place.
        target: the settings with the other place.
        name: the name of the database.
        on_table: receives the name of each table before it is copied.

    Raises:
        TransferError: the databases can't be copied or differ afterwards, for the reason in the message; the source is unchanged.
    """
    if source.engine == REDIS:
        make_directory(source.replicas)  # replicas are a cache, and may be deleted
    with translated(source, target, name), _connected(source.database(name)) as there, _connected(working_url(target, name)) as here:
        if name == schema.KEYSTONE:
            _make_outbox(here)
        pairs = tables.pairs(there, here)
        copied = not rows.same(there, here, pairs)
        if copied:
            if target.engine in ENFORCING:
                tables.check_references(there, pairs)
            here.rollback()
            rows.copy(there, here, pairs, on_table)
            here.commit()
            _check(there, here, pairs)
        return Copied(len(pairs), rows.count(there, pairs), copied)


def _make_outbox(target: Connection) -> None:
    """Make the tables of identity's outbox at the target, so that changes which are not published yet move too.

    They have no triggers until the site's gateway starts, so the copied rows are not recorded as changes.
    """
    for statement in engines.tables(target.dialect.name):
        target.exec_driver_sql(statement)
    target.commit()


def _check(source: Connection, target: Connection, pairs: list[tables.Pair]) -> None:
    """Compare all rows of the tables that both sides have.

    Raises:
        TransferError: a table differs.
    """
    for table, count in rows.differences(source, target, pairs):
        raise TransferError(f"{count} rows of {table} are not the same at source and target")


def finish(source: Settings, target: Settings, name: str) -> None:
    """Complete a database at the target: begin Redis's log with its rows and compare again, and flush a file of SQLite.

    Raises:
        TransferError: the database can't be completed, for the reason in the message; the source is unchanged.
    """
    if target.engine not in schema.FILES:
        return
    file = schema.staged(target, name)
    with translated(source, target, name):
        database_files.checkpoint(file)
        flush(file)
        if target.engine == REDIS:
            database_servers.clear(target, name, own=True)
            database_servers.seed(target, name, file)
            with _connected(source.database(name)) as there, _connected(target.database(name)) as here:
                _check(there, here, tables.pairs(there, here))
            write_private(places.marks(target) / name, database_servers.address(target))
            schema.remove_file(file)
        (places.marks(target) / f"{name}{places.BEGUN}").unlink(missing_ok=True)
        flush(places.marks(target))  # otherwise the mark could reappear after a loss of power, when the database is in use


def working_url(target: Settings, name: str) -> str:
    """Return the URL of the database that takes the rows."""
    if target.engine == REDIS:
        return f"sqlite:///{schema.staged(target, name)}?plugin=atoll&durability=relaxed"
    return target.database(name)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url) if url.startswith("sqlite") else create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("set time zone 'UTC'"))
                connection.commit()
            yield connection
    finally:
        engine.dispose()


@contextmanager
def translated(source: Settings, target: Settings, name: str) -> Iterator[None]:
    """Turn the errors of engines into `TransferError`, with the database's name; suppress warnings about details of schemas."""
    route = f"{name}, from {places.described(source)} to {places.described(target)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)
            yield
    except (TransferError, database_servers.ServerError) as error:
        raise TransferError(f"{route}: {error}") from None
    except (SQLAlchemyError, StoreError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise TransferError(f"{route}: {database_servers.one_line(cause)}") from None
