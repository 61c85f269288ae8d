"""Group commit: the writers of one process share a SQLite transaction and a round trip to the log.

Writers run one after the other on one connection, in one open SQLite transaction. Each sees the changes of the writers before it, so that
they never conflict with each other. A writer that commits while others wait hands the connection on. The last writer sends the changes of
the whole group in one call. SQLite commits, and each writer's commit returns, only after the log has accepted the changes. Readers use
connections of their own and see only committed states.

If another site has written something that a transaction relies on, the log accepts only the transactions before it. The rest are undone,
the replica catches up, and their recorded statements run again. A transaction with the same results joins the next call; a transaction
with other results fails with `Deadlock`.

A transaction that neither commits nor rolls back would delay the transactions that asked to commit before it. So it is *set aside*: undone,
and run again after the others are committed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw

from atoll.stores.certify import Writer
from atoll.stores.entry import Entry
from atoll.stores.errors import Deadlock, LostTail, OutcomeUnknown, Reseeded, StoreError, Trimmed
from atoll.stores.fair_lock import FairLock
from atoll.stores.log import Log
from atoll.stores.metrics import Metrics
from atoll.stores.replica import Position, Replica
from atoll.stores.statement import StatementKind
from atoll.stores.transaction import Result, Transaction

BUSY_TIMEOUT_S = 60.0
"""Seconds that a writer waits for the writers' lock before it fails."""

MOST_MEMBERS = 128
"""Greatest number of transactions in one call."""

RESTING_SHARE = 0.25
"""Greatest time that a group waits for more writers if the previous group had more, as a share of a round trip, from 0 to 1."""

LONGEST_REST_S = 0.02
"""Greatest number of seconds that a group waits for more writers."""

STALL_S = 0.1
"""Seconds, in addition to four round trips, after which a transaction that delays others is set aside."""


class Group:
    """The transactions of one process that write to one replica."""

    def __init__(self, replica: Replica, log: Log, metrics: Metrics, isolation: str) -> None:
        self.writer = Writer(replica, log, metrics, isolation)
        self.metrics = metrics
        self.refusal: StoreError | None = None
        """The reason why nothing may be written; `None` if writing is allowed."""
        self._replica, self._log = replica, log
        self._isolation = isolation
        self._writers_lock = FairLock()  # the thread that holds it may write on the connection
        self.using = threading.RLock()
        """A lock that is held while the connection executes a statement or a commit."""
        self._members: list[Transaction] = []
        self._current: Transaction | None = None
        self._last_size = 1
        self._patience = 0.0  # seconds that the group may still wait for more writers

    def define(self, name: str, narg: int, function: Callable[..., Any] | None, *, deterministic: bool) -> None:
        """Define an SQL function on the writers' connection, unless it is defined already.

        Each new connection defines the same functions. It must not wait for a commit, which takes long if Redis does not answer.
        """
        if self.writer.defines(name, narg):
            return
        with self.using:
            self.writer.define(name, narg, function, deterministic=deterministic)

    @property
    def waiting(self) -> int:
        """Number of threads that wait to write."""
        return self._writers_lock.waiting

    # Methods that a transaction calls, in this order

    def enter(self, transaction: Transaction) -> None:
        """Wait until a transaction may write: its thread then holds the *writers' lock*.

        Raises:
            Deadlock: rows that the transaction has read have changed (at the level `serializable`).
            StoreError: the store accepts no writes, or the transaction's thread did not get the writers' lock in time.
        """
        if self._writers_lock.is_mine:
            raise StoreError(f"{self._replica.path}: this thread already writes in another transaction, and would wait for itself")
        if not self._writers_lock.acquire(BUSY_TIMEOUT_S):
            raise StoreError(f"{self._replica.path}: database is locked: another thread has been writing for {BUSY_TIMEOUT_S:.0f} s")
        try:
            with self.using:
                self._demand(self.refusal)
                if not self.writer.is_open:
                    self.writer.open()
                self._admit(transaction)
        except BaseException:
            self._pass_on()
            raise

    @staticmethod
    def _demand(objection: StoreError | None) -> None:
        if objection:
            raise type(objection)(*objection.args)  # each thread must raise an error of its own

    def _admit(self, transaction: Transaction) -> None:
        first, seen = transaction.first_read, len(self._members)
        transaction.start(self.writer.db, self.writer.base.n, seen)
        self._current = transaction
        if first is not None and (first != self.writer.base.n or seen) and self._isolation != "galera":
            try:  # the rows that the transaction has read must be unchanged in the state to which it writes
                self.writer.replay(transaction)
            except BaseException:
                self._current = None
                transaction.undo()
                raise

    def write(self, transaction: Transaction, sql: str, parameters: Sequence[Any], kind: StatementKind) -> Result:
        """Run a statement of the transaction whose thread holds the writers' lock.

        Raises:
            Deadlock: the transaction had been set aside, and its replay has failed.
            apsw.Error: the statement failed.
        """
        with self.using:
            self._demand(transaction.doomed)
            try:
                return transaction.write(sql, parameters, kind)
            except apsw.Error as error:
                if isinstance(error, apsw.ConstraintError):
                    transaction.rivals = tuple(self._members)
                if not self.writer.db.in_transaction:  # SQLite has rolled back the whole group, for instance because the disk is full
                    transaction.doomed = StoreError(f"{self._replica.path}: can't be written: {error}")
                    members, self._members = self._members, []
                    self._fail(members, transaction.doomed)
                raise

    def leave(self, transaction: Transaction) -> None:
        """Roll back a transaction that wrote, and let the next writer begin.

        If the transaction has violated a constraint, wait until the members of the group have ended: the other row may be of one of them,
        and the service, which reads it next, sees only what is committed.
        """
        with self.using:
            transaction.undo()
            self._current = None
        self._pass_on()
        for rival in transaction.rivals:
            with contextlib.suppress(StoreError):
                rival.wait(self._stall_s, self._set_aside)

    def commit(self, transaction: Transaction) -> None:
        """Commit a transaction that wrote, together with others.

        Raises:
            Deadlock: a transaction of another site conflicts with this one.
            OutcomeUnknown: the log did not answer.
            StoreError: the log refuses the transaction, or the replica can't be written.
        """
        try:
            with self.using:
                self._demand(transaction.doomed)
                self.writer.finish(transaction)
                self._members.append(transaction)
                self._current = None
        except BaseException:
            self.leave(transaction)
            raise
        self._pass_on()
        transaction.wait(self._stall_s, self._set_aside)

    @property
    def _stall_s(self) -> float:
        return STALL_S + 4 * self.metrics.round_trip_ms / 1000

    # Steps of the group. The caller holds the writers' lock, or uses the connection while the thread that holds it executes nothing.

    def _pass_on(self) -> None:
        """Give the writers' lock to the next writer; if no writer waits or the group is full, commit the group first."""
        try:
            if self._members and (len(self._members) >= MOST_MEMBERS or not self._awaits_more()):
                with self.using:
                    self._flush()
            elif not self._members:
                with self.using:
                    self.writer.close()
        finally:
            self._writers_lock.release()

    def _awaits_more(self) -> bool:
        if self._writers_lock.waiting:
            return True
        if len(self._members) >= self._last_size:
            return False
        began = time.monotonic()
        try:
            return self._writers_lock.await_company(self._patience)
        finally:
            self._patience -= time.monotonic() - began

    def _set_aside(self) -> None:
        """Commit the group without the transaction that is still open: undo that transaction, and run it again afterwards."""
        with self.using:
            current = self._current
            if current is None or not self._members:
                return
            self.metrics.set_aside += 1
            current.undo()
            self._flush()
            try:
                self.writer.open()
                current.start(self.writer.db, self.writer.base.n, 0)
                self.writer.replay(current)
            except (StoreError, apsw.Error) as error:
                current.doomed = error if isinstance(error, Deadlock) else Deadlock(f"deadlock: {error}")

    def _flush(self) -> None:
        members, self._members = self._members, []
        self._last_size = len(members)
        self.metrics.largest_group = max(self.metrics.largest_group, len(members))
        try:
            if any(member.candidate and member.candidate.payload for member in members):
                self.writer.certify(members)
            for member in members:
                member.end()
        except (StoreError, apsw.Error) as error:
            wrapped = error if isinstance(error, StoreError) else StoreError(f"{self._replica.path}: can't be written: {error}")
            if isinstance(wrapped, (LostTail, Reseeded, Trimmed)):
                self.refusal = wrapped
            self._fail(members, wrapped)
        except BaseException as error:
            self._fail(members, OutcomeUnknown(f"{self._log}: interrupted by {type(error).__name__}; the outcome is unknown"))
            raise
        finally:
            self._patience = min(LONGEST_REST_S, self.metrics.round_trip_ms / 1000 * RESTING_SHARE)
            self.writer.close()

    @staticmethod
    def _fail(members: list[Transaction], error: StoreError) -> None:
        for member in members:
            member.end(error)

    # Methods for work that does not come from the group's transactions

    @contextlib.contextmanager
    def alone(self) -> Iterator[Position]:
        """Hold the connection while no transaction is open and no other process writes.

        Transactions that asked to commit are sent to the log first.

        Raises:
            StoreError: this thread did not get the writers' lock in time.
        """
        if not self.pause(BUSY_TIMEOUT_S):
            raise StoreError(f"{self._replica.path}: database is locked: another thread has been writing for {BUSY_TIMEOUT_S:.0f} s")
        try:
            self.writer.lock()
            yield self._replica.position(self.writer.db)
        finally:
            try:
                self.writer.close()
            finally:
                self.unpause()

    @property
    def is_mine(self) -> bool:
        """True if the calling thread is writing."""
        return self._writers_lock.is_mine

    def pause(self, timeout_s: float) -> bool:
        """Commit the group, and keep all threads from the connection until `unpause`.

        Return false, and pause nothing, if this thread did not get the writers' lock within `timeout_s` seconds.
        """
        if not self._writers_lock.acquire(timeout_s):
            return False
        self.using.acquire()
        try:
            if self._members:
                self._flush()
            self.writer.close()
        except BaseException:
            self.unpause()
            raise
        return True

    def unpause(self) -> None:
        """Let the threads write again, after `pause`."""
        self.using.release()
        self._writers_lock.release()

    def absorb(self, entries: Sequence[Entry], after: Position) -> Position:
        """Apply entries, except those that the replica already has; return the replica's new position.

        Between the reading of the entries and this call, the site may have committed on a server of Redis that has other entries in their
        place, because it has replaced the former master. Then nothing is applied.

        Args:
            entries: the entries.
            after: the position of the replica when they were read.

        Raises:
            StoreError: the entries do not follow the replica's last entry, or contradict its rows.
        """
        with self.alone() as position:
            names = {after.n: after.last, **{entry.n: entry.txid for entry in entries}}
            if names.get(position.n) == position.last:
                self.writer.apply([entry for entry in entries if entry.n > position.n])
            return self._replica.position(self.writer.db)
