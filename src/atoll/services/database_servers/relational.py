"""Servers of MariaDB and PostgreSQL: whether they can be used, and the databases that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from atoll.services.contract import Settings
from atoll.services.database_servers.contract import FlushPolicy, ServerError, address, one_line, spelled
from atoll.services.database_urls import MARIADB, POSTGRESQL, of_server

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

OLDEST = {MARIADB: (10, 6), POSTGRESQL: (13,)}
"""The oldest versions that the services are known to work with."""

CONNECT_S = 5
"""Seconds to wait for a connection."""

_MAINTENANCE = {MARIADB: "", POSTGRESQL: "postgres"}
"""The database to connect to in order to create others, by engine."""

_EXISTS = {
    MARIADB: "select count(*) from information_schema.schemata where schema_name = :name",
    POSTGRESQL: "select count(*) from pg_database where datname = :name",
}
_TABLES = {
    MARIADB: "select count(*) from information_schema.tables where table_schema = :name",
    POSTGRESQL: "select count(*) from information_schema.tables where table_schema = 'public' and table_catalog = :name",
}
_OPTIONS = {
    # As the services' own deployments: their indexes are too long for four bytes a character in some tables.
    MARIADB: "character set utf8mb3 collate utf8mb3_general_ci",
    POSTGRESQL: "encoding 'UTF8' template template0",
}
_DROP = {
    MARIADB: "drop database if exists {}",
    # A process that was killed can leave a connection behind, and PostgreSQL would refuse until it has noticed.
    POSTGRESQL: "drop database if exists {} with (force)",
}

_KEEPING = frozenset({"on", "local", "remote_write", "remote_apply"})
"""The values of PostgreSQL's `synchronous_commit` with which a commit is on the server's own disk when COMMIT returns."""


def flush_policy(settings: Settings) -> FlushPolicy:
    """Ask the server when it flushes commits; errors as for `check`."""
    with _connected(settings) as connection:
        if settings.engine == MARIADB:
            value = str(connection.exec_driver_sql("select @@global.innodb_flush_log_at_trx_commit").scalar())
            return FlushPolicy(f"innodb_flush_log_at_trx_commit={value}", value == "1")
        found = {name: str(connection.exec_driver_sql(f"show {name}").scalar()) for name in ("fsync", "synchronous_commit")}
    return FlushPolicy(spelled(found), found["fsync"] == "on" and found["synchronous_commit"] in _KEEPING)


def check(settings: Settings) -> None:
    """Refuse a server that does not answer, is too old, or does not let the site's user create triggers.

    Raises:
        ServerError: the server can't be used, for the reason in the message.
    """
    with _connected(settings) as connection:
        found = tuple(connection.dialect.server_version_info or ())
        if settings.engine == MARIADB and not getattr(connection.dialect, "is_mariadb", False):
            raise ServerError(f"{address(settings)} is MySQL {_dotted(found)}: expected MariaDB {_dotted(OLDEST[MARIADB])} or later")
        if found < OLDEST[settings.engine]:
            expected = _dotted(OLDEST[settings.engine])
            raise ServerError(f"{address(settings)} is {settings.engine} {_dotted(found)}: expected version {expected} or later")
        if settings.engine == MARIADB and not _trusts_triggers(connection):
            reason = "writes a binary log, and does not let the site's user create the triggers of Keystone's database"
            raise ServerError(f"{address(settings)} {reason}: set log_bin_trust_function_creators = ON there")


def _trusts_triggers(connection: Connection) -> bool:
    """Return whether MariaDB lets its user create triggers in own databases; else CREATE TRIGGER fails with error 1419."""
    if not connection.exec_driver_sql("select @@global.log_bin and not @@global.log_bin_trust_function_creators").scalar():
        return True
    grants = [str(row[0]) for row in connection.exec_driver_sql("show grants") if " ON *.* " in str(row[0])]
    return any(right in each for each in grants for right in ("ALL PRIVILEGES", "SUPER"))


def _dotted(version: tuple[Any, ...]) -> str:
    return ".".join(map(str, version[:3]))


def database_name(settings: Settings, name: str) -> str:
    """Return the name at the server of a site's database."""
    return settings.owner.database_name(name, settings.engine)


def holds(settings: Settings, name: str) -> bool:
    """Return whether the server has a database `name` of the site with tables; errors as for `check`."""
    from sqlalchemy import text

    called = database_name(settings, name)
    with _connected(settings) as connection:
        if not connection.execute(text(_EXISTS[settings.engine]), {"name": called}).scalar():
            return False
    with _connected(settings, called) as connection:
        return bool(connection.execute(text(_TABLES[settings.engine]), {"name": called}).scalar())


def create(settings: Settings, name: str) -> None:
    """Create an empty database, unless the server has an empty one of that name.

    Raises:
        ServerError: the server refuses.
    """
    from sqlalchemy import text

    called = database_name(settings, name)
    with _connected(settings) as connection:
        if not connection.execute(text(_EXISTS[settings.engine]), {"name": called}).scalar():
            quoted = connection.dialect.identifier_preparer.quote_identifier(called)
            connection.execute(text(f"create database {quoted} {_OPTIONS[settings.engine]}"))


def drop(settings: Settings, names: list[str]) -> None:
    """Remove databases of a site, with all that they hold; those that do not exist are no error. Errors as for `check`."""
    from sqlalchemy import text

    with _connected(settings) as connection:
        for name in names:
            quoted = connection.dialect.identifier_preparer.quote_identifier(database_name(settings, name))
            connection.execute(text(_DROP[settings.engine].format(quoted)))


@contextmanager
def _connected(settings: Settings, database: str | None = None) -> Iterator[Connection]:
    """Connect to a server of MariaDB or PostgreSQL, with each statement a transaction.

    Raises:
        ServerError: the server does not answer, or refuses a statement.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = of_server(settings.database_server, database if database is not None else _MAINTENANCE[settings.engine])
    try:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": CONNECT_S})
        with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, OSError) as error:  # PyMySQL does not translate errors of the files of certificates
        cause = getattr(error, "orig", None) or error
        raise ServerError(f"{address(settings)}: {settings.engine} can't be used: {one_line(cause)}") from None
