"""The servers of a site's databases: whether they can be used, and the databases that they hold.

It imports a driver only when it is called, and shows no password: messages name a server by its address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll.db import address as addresses
from atoll.files import make_directory
from atoll.services.contract import Settings
from atoll.services.database_urls import MARIADB, POSTGRESQL, REDIS, DatabaseOwner, of_server

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from atoll.stores.url import Settings as StoreSettings

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


class ServerError(Exception):
    """A server that can't be used; the message is one line, and has no password."""


@dataclass(frozen=True)
class FlushPolicy:
    """The moments at which a database flushes commits to the disk.

    Attributes:
        setting: the engine's own options with their values, such as `innodb_flush_log_at_trx_commit=1`.
        each_commit: whether a commit is on the disk when COMMIT returns.
    """

    setting: str
    each_commit: bool


def flush_policy(settings: Settings) -> FlushPolicy:
    """Ask the server of a site's databases when it flushes commits.

    Raises:
        ServerError: the server does not answer, or refuses.
    """
    if settings.engine == REDIS:
        with _translated(settings):
            client = _redis(settings)
            found = {name: str(client.config_get(name).get(name, "unknown")) for name in ("appendonly", "appendfsync")}
        return FlushPolicy(_spelled(found), found == {"appendonly": "yes", "appendfsync": "always"})
    with _connected(settings) as connection:
        if settings.engine == MARIADB:
            value = str(connection.exec_driver_sql("select @@global.innodb_flush_log_at_trx_commit").scalar())
            return FlushPolicy(f"innodb_flush_log_at_trx_commit={value}", value == "1")
        found = {name: str(connection.exec_driver_sql(f"show {name}").scalar()) for name in ("fsync", "synchronous_commit")}
    return FlushPolicy(_spelled(found), found["fsync"] == "on" and found["synchronous_commit"] in _KEEPING)


def _spelled(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def address(settings: Settings) -> str:
    """Return the address of a site's server, without user and password."""
    return addresses.address(settings.database_server)


def check(settings: Settings) -> None:
    """Refuse a server that does not answer, is too old, or would lose commits.

    Raises:
        ServerError: the server can't be used, for the reason in the message; nothing was changed.
    """
    if settings.engine == REDIS:
        _check_redis(settings)
        return
    with _connected(settings) as connection:
        found = tuple(connection.dialect.server_version_info or ())
        if settings.engine == MARIADB and not getattr(connection.dialect, "is_mariadb", False):
            raise ServerError(f"{address(settings)} is MySQL {_dotted(found)}: expected MariaDB {_dotted(OLDEST[MARIADB])} or later")
        if found < OLDEST[settings.engine]:
            expected = _dotted(OLDEST[settings.engine])
            raise ServerError(f"{address(settings)} is {settings.engine} {_dotted(found)}: expected version {expected} or later")


def _dotted(version: tuple[Any, ...]) -> str:
    return ".".join(map(str, version[:3]))


def clear(settings: Settings, name: str, *, own: bool) -> None:
    """Make sure that the server has no database `name` of the site, or an empty one.

    Args:
        settings: the site's settings.
        name: the database.
        own: whether the site itself has begun to make the database, so that it may be removed.

    Raises:
        ServerError: the server has such a database with content that this site has not made, or the server refuses.
    """
    called = _called(settings, name)
    if settings.engine == REDIS:
        client, keys = _redis(settings), _keys(called)
        with _translated(settings):
            there = client.exists(*keys)
            if there and own:
                client.delete(*keys)
        if own:  # and a replica that was begun
            for suffix in ("", "-wal", "-shm"):
                Path(f"{settings.database_file(name)}{suffix}").unlink(missing_ok=True)
    else:
        there = _tables(settings, called)
        if there and own:
            drop(settings, [name])
    if there and not own:
        message = f"{address(settings)} has a database {called} already, which this site has not made"
        raise ServerError(f"{message}: remove it there, or give cloud or site another name")


def has(settings: Settings, name: str) -> bool:
    """Return whether the server has a database `name` of the site with content.

    Raises:
        ServerError: the server refuses, or does not answer.
    """
    called = _called(settings, name)
    if settings.engine == REDIS:
        with _translated(settings):
            return bool(_redis(settings).exists(*_keys(called)))
    return _tables(settings, called) > 0


def seed(settings: Settings, name: str, template: Path) -> None:
    """Begin a log in Redis with a template.

    Raises:
        ServerError: Redis refuses, or can't hold a log.
    """
    from atoll.stores import maintenance

    make_directory(settings.database_file(name).parent)
    with _translated(settings):
        maintenance.seed(_store(settings, name), template)


def create(settings: Settings, name: str) -> None:
    """Create an empty database, unless the server has an empty one of that name.

    Raises:
        ServerError: the server refuses.
    """
    from sqlalchemy import text

    called = _called(settings, name)
    with _connected(settings) as connection:
        if not connection.execute(text(_EXISTS[settings.engine]), {"name": called}).scalar():
            quoted = connection.dialect.identifier_preparer.quote_identifier(called)
            connection.execute(text(f"create database {quoted} {_OPTIONS[settings.engine]}"))


def drop(settings: Settings, names: list[str]) -> None:
    """Remove databases of a site from its server, with all that they hold; those that do not exist are ignored.

    Raises:
        ServerError: the server refuses, or does not answer.
    """
    from sqlalchemy import text

    if settings.engine == REDIS:
        with _translated(settings):
            _redis(settings).delete(*(key for name in names for key in _keys(_called(settings, name))))
        return
    with _connected(settings) as connection:
        for name in names:
            quoted = connection.dialect.identifier_preparer.quote_identifier(_called(settings, name))
            connection.execute(text(_DROP[settings.engine].format(quoted)))


def _called(settings: Settings, name: str) -> str:
    owner = DatabaseOwner(settings.cloud, settings.site)
    return owner.log_name(name) if settings.engine == REDIS else owner.database_name(name)


def _keys(log: str) -> list[str]:
    """Return the keys of a log; atoll/stores/log.py names them."""
    return [f"{{{log}}}:{part}" for part in ("log", "meta", "slots", "snapshot", "turn")]


def _tables(settings: Settings, called: str) -> int:
    """Return the number of tables in a database; 0 if there is no such database."""
    from sqlalchemy import text

    with _connected(settings) as connection:
        if not connection.execute(text(_EXISTS[settings.engine]), {"name": called}).scalar():
            return 0
    with _connected(settings, called) as connection:
        return int(connection.execute(text(_TABLES[settings.engine]), {"name": called}).scalar() or 0)


def _store(settings: Settings, name: str = "any") -> StoreSettings:
    from sqlalchemy.engine import make_url

    from atoll.stores.url import parse

    return parse(make_url(settings.database(name)))


def _redis(settings: Settings) -> Any:
    from atoll.stores import server

    return server.connect(_store(settings))


def _check_redis(settings: Settings) -> None:
    from atoll.stores import server

    with _translated(settings):
        store = _store(settings)
        server.check(server.connect(store), store)


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    """Turn the errors of Redis and of a store into `ServerError`."""
    import redis

    from atoll.stores.errors import StoreError

    try:
        yield
    except StoreError as error:
        raise ServerError(one_line(error)) from None
    except redis.RedisError as error:
        raise ServerError(f"{address(settings)}: Redis can't be used: {one_line(error)}") from None


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


def one_line(error: BaseException) -> str:
    """Return the message of a driver's error in one line."""
    text = str(error.args[1]) if len(error.args) > 1 and isinstance(error.args[0], int) else str(error)
    return " ".join(text.split())
