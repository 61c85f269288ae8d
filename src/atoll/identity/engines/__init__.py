"""The engines that Keystone's database can have: how each one captures local changes, and how other sites' changes are applied to it.

The module of a driver is imported only when a database of its engine is opened.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from atoll.identity.engines.contract import Collided, DatabaseError, IdentityDatabase, RowRefused, Session
from atoll.identity.engines.sqlite import SQLiteDatabase

__all__ = ["Collided", "DatabaseError", "IdentityDatabase", "RowRefused", "Session", "adapt", "database", "tables"]

_SERVERS = {
    "mysql": ("mariadb", "MariaDBDatabase"),
    "mariadb": ("mariadb", "MariaDBDatabase"),
    "postgresql": ("postgresql", "PostgreSQLDatabase"),
    "sqlite+redis": ("redis", "RedisDatabase"),
    "sqlite+rediss": ("redis", "RedisDatabase"),
}
"""Module and class of each engine, by the whole scheme of a URL, or by the part of the scheme before the driver's name."""


def database(url: str) -> IdentityDatabase:
    """Return Keystone's database at a SQLAlchemy URL; `IdentityDatabase.install` opens it."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return SQLiteDatabase(Path(unquote(parts.path[1:])))
    module, name = _SERVERS.get(parts.scheme) or _SERVERS[parts.scheme.partition("+")[0]]
    made: IdentityDatabase = getattr(importlib.import_module(f"{__name__}.{module}"), name)(url)
    return made


def adapt(url: str) -> None:
    """Change a new schema of Keystone in MariaDB or PostgreSQL so that it can store every record that other engines can store.

    Raises:
        DatabaseError: the server refuses.
    """
    made = database(url)
    try:
        made.adapt()
    finally:
        made.close()


def tables(dialect: str) -> tuple[str, ...]:
    """Return the statements that create the outbox's tables in a dialect of SQLAlchemy: `sqlite`, `mysql` or `postgresql`."""
    module = "sqlite" if dialect == "sqlite" else _SERVERS[dialect][0]
    found: tuple[str, ...] = importlib.import_module(f"{__name__}.{module}").TABLES
    return found
