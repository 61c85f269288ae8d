"""Answers read from tables that change seldom, kept until this process writes one of the tables.

Upstream reads limits of quota, aggregates or segments again in each request, because another process may have changed them. If a single
process uses a database, as with SQLite at a site, all changes pass through this process's connections, where they can be seen. A
`KeptReads` watches the statements of all connections. It never returns an answer that a commit has made outdated:

* From the first statement that may write a watched table until that connection is back in its pool, after its commit or rollback, nothing
  is kept or returned. Readers execute their statements, so a transaction reads its own changes, and the others read what is committed.
* An answer is kept only if it was read in a transaction of its own, and no watched table was written between the beginning of the reading
  and its end.
* Before a kept answer is returned to a transaction, its session writes its pending changes, as before any query of that session.

SQLite does not enforce the services' foreign keys, so no row is deleted without a statement that names its table. Two answers may come from
two states of the database, as with `READ COMMITTED` of a database server.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Hashable
from typing import Any, TypeVar

from cachetools import LRUCache
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

T = TypeVar("T")

MOST = 1000
"""Greatest number of answers that one `KeptReads` keeps."""

_READS = re.compile(r"\s*(?:SELECT|PRAGMA|EXPLAIN|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)

_PENDING = "atoll.kept-reads"
"""The key of a pooled connection's `record_info` under which it has the `KeptReads` whose tables it may have written."""

_WATCHING: list[KeptReads] = []
"""All that watch."""

_lock = threading.Lock()


class KeptReads:
    """Kept answers from some tables.

    Args:
        tables: names of tables; a statement that writes and contains one of them makes all answers outdated.
        harmless: a regular expression of the beginning of statements that write a table, but no column that the answers contain.
        values: values of rows. If any are named, only statements with one of them, or without parameters, make answers outdated.
    """

    def __init__(self, *tables: str, harmless: str | None = None, values: Collection[str] | None = None) -> None:
        self._pattern = re.compile(rf"\b(?:{'|'.join(tables)})\b", re.IGNORECASE)
        self._harmless = re.compile(harmless) if harmless else None
        self._values = None if values is None else frozenset(values)
        self._lock = threading.Lock()
        self._answers: LRUCache[Hashable, Any] = LRUCache(MOST)
        self._generation = 0
        self._writers = 0

    def watch(self) -> None:
        """Begin to watch the statements of this process; before that, nothing is kept."""
        with _lock:
            if self not in _WATCHING:
                _WATCHING.append(self)
            if not event.contains(Engine, "before_cursor_execute", _note):
                event.listen(Engine, "before_cursor_execute", _note)
                event.listen(Pool, "checkin", _end)

    def answer(
        self,
        key: Hashable,
        here: Callable[[], T],
        apart: Callable[[], T],
        session: Any = None,
        keep: Callable[[T], bool] = lambda _answer: True,
    ) -> T:
        """Return a kept answer, which the caller must not change, or read it.

        Args:
            key: identifies the question, with all on which the answer depends.
            here: reads the answer in the caller's transaction.
            apart: reads the answer in a transaction of its own.
            session: the session of the caller's transaction, if it has one.
            keep: returns whether an answer that was read may be kept.
        """
        if session is not None:
            session._autoflush()
        with self._lock:
            if self._writers or self not in _WATCHING:
                generation = None
            elif key in self._answers:
                kept: T = self._answers[key]
                return kept
            else:
                generation = self._generation
        if generation is None:
            return here()
        found = apart()
        if keep(found):
            with self._lock:
                if generation == self._generation:
                    self._answers[key] = found
        return found

    @property
    def generation(self) -> int | None:
        """The number of changes so far; `None` while a transaction is writing."""
        with self._lock:
            return None if self._writers else self._generation

    def writes(self, statement: str, parameters: Any) -> bool:
        """Return whether a statement, which is no mere reading, may change an answer."""
        if not self._pattern.search(statement) or (self._harmless and self._harmless.match(statement)):
            return False
        if self._values is None or not parameters:
            return True
        return _contains(parameters, self._values) or any(each in statement for each in self._values)

    def begin(self) -> None:
        """Forget all answers, because a transaction is about to write."""
        with self._lock:
            self._writers += 1
            self._generation += 1
            self._answers.clear()

    def end(self) -> None:
        """Note that the transaction has ended."""
        with self._lock:
            self._writers -= 1
            self._generation += 1


def _contains(parameters: Any, values: frozenset[str]) -> bool:
    if isinstance(parameters, str):
        return parameters in values
    items = parameters.values() if isinstance(parameters, dict) else parameters
    return isinstance(parameters, (dict, list, tuple)) and any(_contains(each, values) for each in items)


def _note(connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
    """Note that a connection is about to write."""
    if _READS.match(statement):
        return
    for kept in _WATCHING:
        if not kept.writes(statement, parameters):
            continue
        pending = connection.connection.record_info
        if pending is None:  # detached from its pool, so its end will not be seen
            kept.begin()
        elif kept not in pending.setdefault(_PENDING, set()):
            pending[_PENDING].add(kept)
            kept.begin()


def _end(_connection: Any, record: Any) -> None:
    """Note that a connection is back in its pool, after the commit or the rollback."""
    for kept in record.record_info.pop(_PENDING, ()):
        kept.end()
