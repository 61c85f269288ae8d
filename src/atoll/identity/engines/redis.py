"""Redis through `atoll.stores`: the replica is SQLite, whose triggers fill the outbox there.

A local write starts the triggers, so the outbox's row is part of the same log entry as the write. Log entries of other processes are
applied with triggers off, because they already contain the triggers' effects. So each write is recorded once, also if the store repeats a
transaction after a conflict.

Statements that change the schema are log entries too. They are written only if a trigger or an index differs or is missing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from redis import RedisError
from sqlalchemy.engine import make_url

from atoll.identity.engines.contract import Collided, DatabaseError, IdentityDatabase, Row, RowRefused, Session
from atoll.identity.engines.sqlite import SQLiteSession
from atoll.stores import dbapi, server
from atoll.stores.dbapi import Connection
from atoll.stores.errors import Deadlock, StoreError
from atoll.stores.statement import FOR_UPDATE
from atoll.stores.url import parse

PATIENCE_S = 5.0
"""Greatest number of seconds in which a commit is sent again if Redis does not answer. During this time, the gateway answers no request."""


class RedisDatabase(IdentityDatabase):
    """Keystone's log in Redis, with the site's replica."""

    def __init__(self, url: str) -> None:
        """Prepare to open a log.

        Args:
            url: the URL of the database; see docs/stores.md.
        """
        settings = parse(make_url(url))
        self._settings = replace(settings, timeout=min(settings.timeout, PATIENCE_S))
        self._connection: Connection | None = None

    def install(self) -> bool:
        """Open the replica, and install the outbox; see `IdentityDatabase`."""
        self.close()
        with _translated():
            self._settings.replica.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a replica is a cache, its directory too
            self._connection = dbapi.connect(self._settings)
        with self._transaction(writing=False) as session:
            is_new, is_current = not session.has("atoll_outbox"), session.is_current()
        if not is_current:
            with self._transaction(writing=True) as session:
                session.install()
        return is_new

    def close(self) -> None:
        """Return the connection to the process's store, if it is open."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()

    def is_reachable(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(server.connect(self._settings).ping())
        except (RedisError, StoreError, OSError):
            return False

    def adapt(self) -> None:
        """Do nothing: a schema of SQLite needs no change."""

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that reads; see `IdentityDatabase`."""
        with self._transaction(writing=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that writes; see `IdentityDatabase`."""
        with self._transaction(writing=True) as session:
            yield session

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[SQLiteSession]:
        connection = self._connection
        if connection is None:
            raise DatabaseError("the database is not open")

        def execute(statement: str, parameters: Sequence[Any] = ()) -> Iterable[Row]:
            return connection.execute(statement, parameters)

        with _translated():
            try:
                if writing:
                    execute(f"SELECT 1 {FOR_UPDATE}")  # the other processes of the site wait from now on
                yield SQLiteSession(execute)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise RowRefused(str(error)) from error
    except Deadlock as error:
        raise Collided(str(error)) from error
    except sqlite3.Error as error:
        raise DatabaseError(str(error)) from error
