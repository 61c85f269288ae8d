"""The follower: a thread that applies new entries of the log to the replica.

One process of a site holds a lock and follows the log. The site's other processes wait for the lock. They read the applied entries from the
replica, a file that all processes of the site share.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

import apsw

from atoll.stores import forks
from atoll.stores.errors import NotAReplica, RedisUnreachable, Refusal, ReplicaEdited, StoreError, Trimmed
from atoll.stores.fit import judge
from atoll.stores.group import Group
from atoll.stores.log import Log
from atoll.stores.replica import Position, Replica

LOG = logging.getLogger(__name__)

BLOCK_MS = 1000
"""Milliseconds without a new entry after which the follower checks that the log still contains the replica's entries."""

STAND_BY_S = 0.5
"""Seconds between two attempts to become the site's follower, or to reach Redis again."""


class Follower(threading.Thread):
    """The thread that follows the log for a site."""

    def __init__(self, replica: Replica, log: Log, group: Group, renew: Callable[[], None]) -> None:
        """Prepare to follow a log for a site.

        Args:
            replica: the site's replica.
            log: the log.
            group: the process's writers.
            renew: a function that replaces the replica's content with the log's snapshot.
        """
        super().__init__(name=f"follow-{log.name}", daemon=True)
        self._replica, self._log, self._group = replica, log, group
        self._renew = renew
        self._db = replica.open()
        self._stopped = threading.Event()
        self._resumptions = 0  # number of calls of `resume`: a check that began before the last call is out of date

    def stop(self) -> None:
        """Ask the thread to stop; it may still wait up to `BLOCK_MS` milliseconds for an entry."""
        self._stopped.set()

    def run(self) -> None:
        """Follow the log until `stop` is called."""
        lock: int | None = None
        while not self._stopped.is_set():
            try:
                lock = self._replica.lock("follow", wait=False) if lock is None else lock
                self.step()
            except BlockingIOError:
                self._stopped.wait(STAND_BY_S)
            except RedisUnreachable:
                self._stopped.wait(STAND_BY_S)
            except Refusal as refusal:
                self._refuse(refusal)
                self._stopped.wait(STAND_BY_S)
            except (StoreError, apsw.Error) as error:
                LOG.warning("%s: following failed, and is tried again: %s", self._log, error)
                self._stopped.wait(STAND_BY_S)
        if lock is not None:
            forks.release(lock)
        self._db.close()

    def step(self) -> None:
        """Wait for new entries and apply them; if none arrive, check the log.

        Raises:
            StoreError: the log can't be reached or is not the replica's, or the replica can't be written.
        """
        position = self._position()
        if self._group.refusal is None and self._log.has_news(position.n, BLOCK_MS):
            with contextlib.suppress(Refusal):  # the check below finds the reason
                self._absorb(position)
                return
        resumptions = self._resumptions
        state = self._log.state(position.n)
        if position != self._position():
            return  # the replica has moved meanwhile, so the answer is out of date
        with self._group.using:
            identity = self._replica.identity(self._db)
        if identity is None:
            raise NotAReplica(f"{self._replica.path}: this file is no longer a replica: delete it")
        refusal = judge(self._log, self._replica.path, position, identity.generation, state)
        if isinstance(refusal, Trimmed):
            self._renew()
        elif refusal:
            with self._group.using:
                if resumptions == self._resumptions:
                    self._refuse(refusal)
            self._stopped.wait(STAND_BY_S)
        elif isinstance(self._group.refusal, ReplicaEdited):
            self._stopped.wait(STAND_BY_S)
        else:
            self.resume(identity.generation, state.generation)

    def _position(self) -> Position:
        with self._group.using:  # a fork waits until no thread of the store uses SQLite
            return self._replica.position(self._db)

    def _absorb(self, position: Position) -> None:
        news = self._log.entries(self._group.writer.generation, position)
        if news and news[-1].n > self._position().n:  # otherwise the entries are the site's own commits
            try:
                self._group.absorb(news, position)
            except ReplicaEdited as edited:
                self._refuse(edited)

    def resume(self, known: str = "", now: str = "") -> None:
        """Let writers continue, because the log contains the replica's entries, perhaps again after a `reseed`.

        Args:
            known: the generation that the replica has recorded; empty if it need not be changed.
            now: the log's present generation, which the replica then records.
        """
        if known != now:
            with self._group.alone():
                self._replica.adopt(self._group.writer.db, now)
        with self._group.using:
            self._resumptions += 1
            self._group.writer.generation = now or self._group.writer.generation
            if self._group.refusal:
                LOG.warning("%s: the log contains the entries of %s again: writing continues", self._log, self._replica.path)
                self._group.refusal = None

    def _refuse(self, refusal: Refusal) -> None:
        if type(self._group.refusal) is not type(refusal):
            LOG.error("%s", refusal)
        self._group.refusal = refusal
