"""Records the statements and commits of databases.

Statements are recorded by SQLAlchemy's events for cursors. Commits are recorded by a replacement of `DefaultDialect.do_commit`, because a
commit waits for the disk and no event reports its end. A statement's text is recorded with `?` in place of each value, and without its
parameters. Equal statements have equal digests. The digest's key is random and differs between processes, because short values could be
guessed from a digest without a secret key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from atoll.trace import names, sampling, spans
from atoll.trace.attributes import REQUEST_BYTES

_STARTED = "_atoll_started"


def install() -> None:
    """Listen to the events of all engines; a second call does nothing."""
    if event.contains(Engine, "before_cursor_execute", _before):
        return
    event.listen(Engine, "before_cursor_execute", _before)
    event.listen(Engine, "after_cursor_execute", _after)
    event.listen(Engine, "handle_error", _failed)
    original: Callable[[Any, Any], None] = DefaultDialect.do_commit

    @wraps(original)
    def do_commit(self: DefaultDialect, dbapi_connection: Any) -> None:
        current = sampling.sampled()
        if current is None:
            original(self, dbapi_connection)
            return
        started = time.time_ns()
        failure: BaseException | None = None
        try:
            original(self, dbapi_connection)
        except BaseException as error:
            failure = error
            raise
        finally:
            attributes = {"db.system.name": self.name, "db.operation.name": "COMMIT"}
            spans.finished(current, "COMMIT", started, attributes, failure)

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]  # put around upstream's


def _before(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
    if context is not None and sampling.sampled() is not None:
        context._atoll_started = time.time_ns()


def _after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:  # noqa: PLR0913, PLR0917 - of the event
    started = getattr(context, _STARTED, None)
    if started is not None:
        attributes: dict[str, Any] = {}
        if many:
            attributes["db.operation.batch.size"] = len(parameters)
        if cursor.rowcount >= 0:
            attributes["atoll.db.rows"] = cursor.rowcount
        _finish(connection, statement, parameters, started, attributes)
        del context._atoll_started


def _failed(failure: Any) -> None:
    context = failure.execution_context
    started = getattr(context, _STARTED, None)
    if started is not None and failure.statement is not None:
        _finish(failure.connection or failure.engine, failure.statement, failure.parameters, started, {}, failure.original_exception)
        del context._atoll_started


def _finish(  # noqa: PLR0913, PLR0917 - the parts of a statement
    connection: Any,
    statement: str,
    parameters: Any,
    started: int,
    attributes: dict[str, Any],
    error: BaseException | None = None,
) -> None:
    current = sampling.sampled()
    if current is None:
        return
    verb, table, text = names.sql(statement)
    told = repr(parameters).encode(errors="replace") if parameters else b""
    attributes |= {
        "db.system.name": connection.dialect.name,
        "db.operation.name": verb,
        "db.query.text": text,
        "atoll.db.digest": current.digest(statement.encode(errors="replace") + told),
        REQUEST_BYTES: len(statement) + len(told),
    }
    database = getattr(getattr(connection, "engine", connection), "url", None)
    if database is not None and database.database:
        attributes["db.namespace"] = str(database.database).rpartition("/")[2]
    if table:
        attributes["db.collection.name"] = table
    spans.finished(current, f"{verb} {table}".strip(), started, attributes, error)
