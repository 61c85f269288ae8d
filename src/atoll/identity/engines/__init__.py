"""The engines that can hold Keystone's database: how each captures changes, and how changes of other sites are applied to it.

A driver is imported only when a database of its engine is opened.
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
"""Module and class, by the scheme of a URL, or by what stands before its driver."""


def database(url: str) -> IdentityDatabase:
    """Return Keystone's database at a SQLAlchemy URL; `IdentityDatabase.install` opens it."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return SQLiteDatabase(Path(unquote(parts.path[1:])))
    module, name = _SERVERS.get(parts.scheme) or _SERVERS[parts.scheme.partition("+")[0]]
    made: IdentityDatabase = getattr(importlib.import_module(f"{__name__}.{module}"), name)(url)
    return made


def adapt(url: str) -> None:
    """Change a new schema of Keystone at a server of MariaDB or PostgreSQL so that it holds what the other engines hold.

    Raises:
        DatabaseError: the server refuses.
    """
    made = database(url)
    try:
        made.adapt()
    finally:
        made.close()


def tables(dialect: str) -> tuple[str, ...]:
    """Return the statements that make the tables of the outbox, for a dialect of SQLAlchemy: `sqlite`, `mysql` or `postgresql`."""
    module = "sqlite" if dialect == "sqlite" else _SERVERS[dialect][0]
    found: tuple[str, ...] = importlib.import_module(f"{__name__}.{module}").TABLES
    return found
