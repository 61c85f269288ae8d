"""The SQLAlchemy dialect `redis://`: it speaks SQLite's SQL to the site's replica, and the log in Redis certifies the commits."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

from sqlalchemy import event, pool
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import Select

from atoll.stores import dbapi, url
from atoll.stores.errors import Inherited
from atoll.stores.guard import PREFIX
from atoll.stores.statement import FOR_UPDATE


class Compiler(SQLiteCompiler):
    """SQLite's compiler, which writes a comment in place of FOR UPDATE."""

    def for_update_clause(self, select: Select[Any], **kw: Any) -> str:
        """Return the comment by which the store recognises SELECT … FOR UPDATE, and runs it as a write."""
        return f" {FOR_UPDATE}"


class RedisDialect(SQLiteDialect_pysqlite):
    """The dialect `redis://`. Its name is `sqlite`, so that services and their migrations use SQLite's SQL, which the replica executes."""

    driver = "redis"
    supports_statement_cache = True
    statement_compiler = Compiler

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Return the DB-API module."""
        return dbapi

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Return a pool that reuses connections."""
        return pool.QueuePool

    def create_connect_args(self, url_: URL) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of `dbapi.connect`.

        Raises:
            BadURL: a part of the URL is missing, unknown or wrong.
        """
        return [url.parse(url_)], {}

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Return true if the connection can never be used again, so that a pool opens another."""
        return isinstance(e, Inherited) or super().is_disconnect(e, connection, cursor)

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Switch between transactions and AUTOCOMMIT. The isolation between sites is a parameter of the URL."""
        dbapi_connection.autocommit = level == "AUTOCOMMIT"

    def get_table_names(
        self, connection: Connection, schema: str | None = None, sqlite_include_internal: bool = False, **kw: Any
    ) -> list[str]:
        """Return the names of all tables except the store's own."""
        inherited: Any = super().get_table_names
        names = inherited(connection, schema, sqlite_include_internal=sqlite_include_internal, **kw)
        return [name for name in names if not name.startswith(PREFIX)]

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Set the mark that keeps oslo.db's listener from executing BEGIN (oslo_db/sqlalchemy/engines.py)."""
        event.listen(engine, "begin", lambda connection: connection.info.__setitem__("in_transaction", True))


def _deadlock(error: Exception, _match: object, _engine_name: str, _is_disconnect: bool) -> None:
    raise oslo_exception.DBDeadlock(error)


def _disconnected(error: Exception, _match: object, _engine_name: str, _is_disconnect: bool) -> None:
    raise oslo_exception.DBConnectionError(error)


with contextlib.suppress(ImportError):  # the dialect works without oslo.db; make it, if installed, recognise the store's deadlocks
    from oslo_db import exception as oslo_exception
    from oslo_db.sqlalchemy import exc_filters

    exc_filters.filters("sqlite", OperationalError, r"^.*\bdeadlock: .*")(_deadlock)
    exc_filters.filters("sqlite", OperationalError, r"^.*can't be reached.*")(_disconnected)
