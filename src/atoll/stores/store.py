"""A store: the replica, log, writers and follower that all connections of one process to one database share."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import apsw

from atoll.stores import forks
from atoll.stores.errors import LostTail, NotAReplica, RedisUnreachable, Refusal, StoreError, Trimmed, WrongLog
from atoll.stores.fit import judge
from atoll.stores.follower import Follower
from atoll.stores.group import Group
from atoll.stores.log import READ_ENTRIES, Attached, Log
from atoll.stores.metrics import Metrics
from atoll.stores.numbering import Series
from atoll.stores.replica import Identity, Position, Replica
from atoll.stores.statement import Statement, StatementKind, kind_of, tables_of
from atoll.stores.url import Settings

LOGGER = logging.getLogger(__name__)

MOST_STATEMENTS = 2000
"""Greatest number of statements whose kind is cached."""


class Store:
    """A replica, its log, its writers and its follower.

    Opening a store brings its replica up to date. If Redis can't be reached, an existing replica can be read, and nothing can be written.

    Raises:
        Refusal: the server, the log or the replica is not usable; nothing was changed.
        RedisUnreachable: Redis does not answer, and the site has no replica yet.
    """

    def __init__(self, settings: Settings, *, follow: bool = True) -> None:
        self.settings = settings
        self.inherited = False
        """True if this process was forked after its parent had opened this store, so that the store belongs to the parent."""
        self.metrics = Metrics()
        self.log = Log(settings, self.metrics)
        self.replica = Replica(settings.replica, settings.history)
        self.series = Series(0, settings.stride)
        self._attached = False
        self._cut: RedisUnreachable | None = None  # the error because of which the store was opened without Redis
        self._statements: dict[str, Statement] = {}
        self._idle: list[apsw.Connection] = []
        if not settings.replica.parent.is_dir():
            raise NotAReplica(f"{settings.replica}: the file's directory does not exist: create it")
        refusal: StoreError | None = None
        with self.replica.exclusive("open"):
            try:
                attached = self._attach()
            except LostTail as lost:
                attached, refusal = None, lost
            if attached:
                self._prepare(attached)
        self.group = Group(self.replica, self.log, self.metrics, settings.isolation)
        if attached:
            self._settle_or_read(attached)
        else:
            self._refuse(refusal or RedisUnreachable(f"{self._cut}: this site can read but not write"))
        self.follower = Follower(self.replica, self.log, self.group, lambda: self._renew(self.group.writer.generation))
        if follow:
            self.follower.start()

    def _attach(self) -> Attached | None:
        """Return the log's description; `None` if Redis does not answer but a replica can be read."""
        identity = self._local_identity()
        try:
            attached = self.log.attach(create=identity is None)
        except RedisUnreachable as error:
            if identity is None:
                raise
            self._cut = error
            return None
        self.series = Series(attached.slot, attached.stride)
        return attached

    def _local_identity(self) -> Identity | None:
        identity = self.replica.peek()
        wanted = (self.settings.cloud, self.settings.log)
        if identity and (identity.cloud, identity.log) != wanted:
            found = f"of log {identity.log!r} of cloud {identity.cloud!r}"
            raise WrongLog(
                f"{self.replica.path} is a replica {found}, not of log {wanted[1]!r} of cloud {wanted[0]!r}: choose another file"
            )
        return identity

    def _prepare(self, attached: Attached) -> None:
        """Create the replica if it is missing."""
        if self._local_identity() is None:
            self._restore(attached.generation)

    def _restore(self, generation: str) -> None:
        identity = Identity(self.settings.cloud, self.settings.log, generation)
        if snapshot := self.log.snapshot():
            self.replica.load(snapshot, identity)
            self.metrics.restores += 1
        else:
            db = self.replica.open()
            self.replica.initialise(db, identity, Position(0, b""))
            db.close()
        self.log.close()

    def _renew(self, generation: str) -> None:
        """Replace a replica that is older than the log's first entry with the log's snapshot."""
        LOGGER.warning("%s: the replica is too old, and is replaced with the log's snapshot", self.replica.path)
        with self.group.alone():
            self._restore(generation)

    def _settle_or_read(self, attached: Attached) -> None:
        """Compare the replica with the log, and catch up; if the log's news can't be had, only read a replica that has content.

        Raises:
            RedisUnreachable: the replica is empty, and the log's entries can't be had.
        """
        try:
            self._settle(attached)
        except RedisUnreachable as error:
            if not self.replica.position(self.group.writer.db).n:
                raise
            self._refuse(RedisUnreachable(f"{error}: this site can read but not write"))

    def _settle(self, attached: Attached) -> None:
        """Compare the replica with the log, and catch up."""
        refusal = self._judge()
        if isinstance(refusal, Trimmed):
            self._renew(attached.generation)
            refusal = self._judge()
        if isinstance(refusal, LostTail):
            self._refuse(refusal)
            return
        if refusal:
            raise refusal
        self.group.writer.generation = attached.generation
        with self.group.alone():
            identity = self.replica.identity(self.group.writer.db)
            if identity and identity.generation != attached.generation:
                self.replica.adopt(self.group.writer.db, attached.generation)
        self.catch_up()
        self._attached = True

    def _refuse(self, refusal: StoreError) -> None:
        """Refuse writes from now on; the site can still read its replica, which has all commits that it acknowledged."""
        LOGGER.error("%s", refusal)
        self.group.refusal = refusal
        identity = self.replica.identity(self.group.writer.db)
        self.group.writer.generation = identity.generation if identity else ""

    def _judge(self) -> Refusal | None:
        position, identity = self.replica.position(self.group.writer.db), self.replica.identity(self.group.writer.db)
        state = self.log.state(position.n)
        return judge(self.log, self.replica.path, position, identity.generation if identity else "", state)

    def catch_up(self) -> None:
        """Apply all entries of the log that the replica lacks.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        with self.group.alone() as position:
            pass  # the writers' transactions are committed
        more = True
        while more:
            entries = self.log.entries(self.group.writer.generation, position)
            more = len(entries) >= READ_ENTRIES  # fewer entries mean that the log ends there
            position = self.group.absorb(entries, position) if entries else position
        self.metrics.position = position.n

    def ready(self) -> None:
        """If the store was opened without Redis, connect it to the log as soon as Redis answers; called before a transaction writes.

        Raises:
            Refusal: the server, the log or the replica is not usable.
        """
        if self._attached or not isinstance(self.group.refusal, RedisUnreachable | None):
            return
        if attached := self._attach():
            self.group.refusal = None
            self._settle(attached)

    def statement(self, db: apsw.Connection, sql: str) -> Statement:
        """Return a statement's kind and, at the level `serializable`, the tables that it reads."""
        found = self._statements.get(sql)
        if found is None:
            kind, tables = kind_of(sql), frozenset[str]()
            if self.settings.isolation == "serializable" and kind in {StatementKind.READ, StatementKind.LOCK, StatementKind.WRITE}:
                tables = tables_of(db, sql)
            if len(self._statements) >= MOST_STATEMENTS:
                self._statements.clear()
            found = self._statements[sql] = Statement(kind, tables)
        return found

    def reader(self) -> apsw.Connection:
        """Return a connection for reading. An unused one is preferred, because a new connection has to parse the schema."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.replica.open()

    def give_back(self, db: apsw.Connection) -> None:
        """Keep a connection that `reader` returned for the next reader."""
        if not self.inherited:
            self._idle.append(db)

    def close(self) -> None:
        """Stop the follower and close all connections. All transactions must have ended."""
        self.follower.stop()
        if self.follower.is_alive():
            self.follower.join()
        for db in (*self._idle, self.group.writer.db):
            db.close()
        self.log.close()


FORK_TIMEOUT_S = 60.0
"""Greatest number of seconds that a fork waits until the transactions of other threads have ended."""

FORK_ATTEMPT_S = 0.05
"""Seconds that a fork waits for one store before it lets all stores continue and tries again, because threads may wait for each other."""

_stores: dict[Path, Store] = {}
_guard = threading.Lock()
_paused: list[Store] = []
_busy: set[Path] = set()
"""Replicas to which the parent of this process was writing when it forked."""


def open_store(settings: Settings) -> Store:
    """Return the process's store of a replica; the first call opens it.

    Raises:
        Refusal: the server, the log or the replica is not usable, or the process has opened the replica with other settings.
        RedisUnreachable: Redis does not answer, and the site has no replica yet.
        StoreError: the process was forked while its parent was writing to the replica.
    """
    with _guard:
        if settings.replica in _busy:
            raise StoreError(
                f"{settings.replica}: this process was forked during a transaction that writes: fork after the transaction's end"
            )
        store = _stores.get(settings.replica)
        if store is None:
            store = _stores[settings.replica] = Store(settings)
        elif store.settings != settings:
            raise WrongLog(f"{settings.replica}: this process has opened it with another URL: use one URL for one file")
        return store


def close_stores() -> None:
    """Close all stores of this process."""
    with _guard:
        while _stores:
            _stores.popitem()[1].close()


def _before_fork() -> None:
    """Wait until no thread of a store uses SQLite, except the thread that forks; see `forks`."""
    end = time.monotonic() + FORK_TIMEOUT_S
    while not _pause(last=time.monotonic() >= end):
        pass
    forks.stop()
    if _running():
        LOGGER.warning("a thread has been writing for %.0f s: this fork does not wait for it", FORK_TIMEOUT_S)


def _pause(*, last: bool) -> bool:
    """Pause the stores; return whether all stores are paused, or this is the last attempt, after which the fork proceeds anyway."""
    for store in _running():
        if store.group.pause(FORK_ATTEMPT_S):
            _paused.append(store)
        elif not last:
            _unpause()
            return False
    _guard.acquire()
    if last or not _running():
        return True
    _guard.release()
    _unpause()
    return False


def _running() -> list[Store]:
    """Return the stores in which another thread may use SQLite."""
    return [store for store in list(_stores.values()) if store not in _paused and not store.group.is_mine]


def _unpause() -> None:
    while _paused:
        _paused.pop().group.unpause()


def _after_fork() -> None:
    forks.go_on()
    _guard.release()
    _unpause()


def _in_child() -> None:
    """In a forked child process, forget the parent's stores and close their locks and connections."""
    _busy.update(path for path, store in _stores.items() if store not in _paused)
    for store in _stores.values():
        store.inherited = True
    _stores.clear()
    forks.forget(connections=not _busy)
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
