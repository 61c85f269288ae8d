"""The common part of MariaDB and PostgreSQL: a connection through the driver, values as SQLite stores them, and concurrent writers.

Other transactions may write while a transaction of the replica is open. So the replica checks at the end of its transaction that no other
transaction has changed the same records (`IdentityDatabase.excludes_writers`). It waits only a short time for another transaction's lock;
after that, the replica's transaction is rolled back, and not Keystone's.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from atoll.identity.engines.contract import Content, DatabaseError, IdentityDatabase, Row, Selection, Session
from atoll.identity.tables import Key, Value

CONNECT_S = 3
"""Seconds to wait for a connection."""

ANSWER_S = 10
"""Seconds to wait for the answer to a statement."""

_AT_ONCE = 200
"""Greatest number of keys in one statement."""

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))?")


def canonical(value: Any) -> Any:
    """Return a value of a driver, or in JSON, as SQLite stores it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, Decimal) else value


def _whole(value: Any) -> Any:
    """Return a time in a text with six digits after the second, so that equal times are equal texts; return any other value unchanged."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        return f"{found[1]} {found[2]}.{found[3] or '':0<6}"
    return value


class ServerSession(Session):
    """A transaction at a server."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Iterable[Row]:
        """Run a statement and return its rows."""
        with self._connection.cursor() as cursor:
            # Without parameters, drivers leave percent signs alone.
            cursor.execute(statement.replace("?", "%s") if parameters else statement, tuple(parameters) or None)
            return [tuple(map(canonical, row)) for row in cursor.fetchall()] if cursor.description else []

    def several(self, table: str, columns: Sequence[tuple[str, str]], keys: Sequence[Sequence[Value]]) -> Iterator[Selection]:
        """Yield selections of the given keys by conditions that indexes serve; see `Session`."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            if len(columns) == 1 and all(key[0] is not None for key in some):
                [(name, column)] = columns
                marks = ", ".join("?" * len(some))
                yield Selection("", f"{column} IN ({marks})", [self.stored(table, name, key[0]) for key in some])
                continue
            conditions, parameters = [], []
            for key in some:
                parts = []
                for (name, column), value in zip(columns, key, strict=True):
                    parts.append(f"{column} IS NULL" if value is None else f"{column} = ?")
                    parameters += [] if value is None else [self.stored(table, name, value)]
                conditions.append(f"({' AND '.join(parts)})")
            yield Selection("", f"({' OR '.join(conditions)})", parameters)

    def stored(self, table: str, column: str, value: Value) -> Any:
        """Return the parameter for a value of a column; see `Session`."""
        return value

    def canonical(self, key: Sequence[Value]) -> Key:
        """Return a key as the tables return it."""
        return tuple(_whole(canonical(value)) for value in key)

    def reconciled(self, here: Content, agreed: Content) -> Content:
        """Return the content of rows with those times of `agreed` that are equal, but written without digits after the second."""
        return {name: agreed[name] if name in agreed and _whole(agreed[name]) == value else value for name, value in here.items()}


class ServerDatabase(IdentityDatabase):
    """Keystone's database at a server."""

    excludes_writers = False
    arguments: ClassVar[dict[str, Any]]
    """Arguments of the driver for a connection, in addition to those of the URL."""
    on_connect: ClassVar[tuple[str, ...]]
    """Statements for a new connection."""
    begin_reading: ClassVar[tuple[str, ...]]
    begin_writing: ClassVar[tuple[str, ...]]

    def __init__(self, url: str) -> None:
        """Prepare to connect to a database.

        Args:
            url: its SQLAlchemy URL, with the password.
        """
        self._url = url
        self._connection: Any = None

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(Exception):  # each driver has errors of its own, and the connection is of no use any more
                connection.close()

    def is_reachable(self) -> bool:
        """Return whether the server accepts a connection."""
        try:
            connection = self._connect()
        except DatabaseError:
            return False
        with suppress(Exception):  # as in `close`
            connection.close()
        return True

    def _connect(self) -> Any:
        try:
            engine = create_engine(self._url, poolclass=NullPool, connect_args=dict(self.arguments))
            pooled = engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
        except SQLAlchemyError as error:
            raise self.translated(getattr(error, "orig", None) or error) from None
        except Exception as error:  # the drivers' errors have no base in common
            raise self.translated(error) from None
        self._set_autocommit(connection)
        return connection

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that reads; see `IdentityDatabase`."""
        with self._transaction(self.begin_reading) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that writes; see `IdentityDatabase`."""
        with self._transaction(self.begin_writing) as session:
            yield session

    @contextmanager
    def _transaction(self, begin: Sequence[str]) -> Iterator[Session]:
        with self._session() as session:
            for statement in begin:
                session.execute(statement)
            try:
                yield session
            except BaseException:
                with suppress(Exception):  # a broken connection can't roll back, and `_session` drops it
                    session.execute("ROLLBACK")
                raise
            session.execute("COMMIT")

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Yield a session in which each statement is a transaction. A connection that fails is dropped; the next session opens another."""
        if self._connection is None:
            self._connection = self._connect()
            try:
                for statement in self.on_connect:
                    self._new_session(self._connection).execute(statement)
            except Exception as error:
                self.close()
                raise self.translated(error) from error
        try:
            yield self._new_session(self._connection)
        except DatabaseError:
            raise
        except Exception as error:
            if not self.is_error(error):
                raise
            found = self.translated(error)
            if type(found) is DatabaseError:
                self.close()
            raise found from error

    @abstractmethod
    def _new_session(self, connection: Any) -> Session:
        """Return a session of a connection."""

    @abstractmethod
    def is_error(self, error: Exception) -> bool:
        """Return whether an exception is one of the driver."""

    @abstractmethod
    def translated(self, error: BaseException) -> DatabaseError:
        """Return the error of this package that corresponds to one of the driver."""

    @abstractmethod
    def _set_autocommit(self, connection: Any) -> None:
        """Make each statement of a connection a transaction, unless one was begun."""
