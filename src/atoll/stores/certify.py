"""Certification: the connection on which a process writes, and the commit of its transactions through the log.

The transactions of a group run in one open SQLite transaction. The log accepts them in order, up to the first transaction that conflicts
with one of another site. If the log accepts all, and has no entries that the replica lacks, SQLite commits. Otherwise the SQLite
transaction is rolled back, the replica catches up, and the transactions that were not accepted run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from atoll.stores import forks
from atoll.stores.entry import Entry
from atoll.stores.errors import Deadlock, OutcomeUnknown
from atoll.stores.fit import objection
from atoll.stores.log import READ_ENTRIES, Candidate, Certificate, Log
from atoll.stores.metrics import Metrics
from atoll.stores.replica import Position, Replica
from atoll.stores.transaction import Transaction

TURN_PAUSE_S = 0.002
"""Seconds before a group is sent again, if the log has reserved the next append for another site. Such a reservation is called a *turn*."""


class Writer:
    """The connection on which the transactions of a process write. One thread uses it at a time."""

    def __init__(self, replica: Replica, log: Log, metrics: Metrics, isolation: str) -> None:
        self.db = replica.open()
        self.base = Position(0, b"")
        """The replica's position before the open SQLite transaction."""
        self.generation = ""
        """The log's generation."""
        self.foreign_keys = False
        """True if SQLite is to enforce foreign keys for writers, from the next SQLite transaction on."""
        self._replica, self._log, self._metrics = replica, log, metrics
        self._isolation = isolation
        self._functions: set[tuple[str, int]] = set()
        self._lock: int | None = None  # the descriptor of the lock that keeps other processes from writing
        self._lost = False  # True if the last conflict failed a transaction, which its service will repeat

    @property
    def is_open(self) -> bool:
        """True if a SQLite transaction is open for a group."""
        return self._lock is not None

    def defines(self, name: str, narg: int) -> bool:
        """Return whether the writers' connection has an SQL function."""
        return (name, narg) in self._functions

    def define(self, name: str, narg: int, function: Callable[..., Any] | None, *, deterministic: bool) -> None:
        """Define an SQL function on the writers' connection, unless it is defined already."""
        if not self.defines(name, narg):
            self.db.create_scalar_function(name, function, narg, deterministic=deterministic)
            self._functions.add((name, narg))

    def lock(self) -> None:
        """Keep other processes from writing, until `close`."""
        self._lock = self._replica.lock("write")

    def open(self) -> None:
        """Open a SQLite transaction for a group.

        Raises:
            ReplicaEdited: another program has changed the schema.
            RedisUnreachable: the log must be read before a write, and does not answer.
            apsw.Error: the file can't be written.
        """
        self.lock()
        try:
            if self._lost:  # the log has reserved the next append for this site: with the newest state, no other site can cause a conflict
                self.catch_up()
            if bool(self.db.pragma("foreign_keys")) != self.foreign_keys:
                self.db.pragma("foreign_keys", self.foreign_keys)
            self.base = self._replica.begin(self.db)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Undo uncommitted changes, and let other processes write."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        if self._lock is not None:
            forks.release(self._lock)
            self._lock = None

    def finish(self, transaction: Transaction) -> None:
        """End the writing of a transaction, and prepare its candidate: the form in which it is sent to the log."""
        transaction.finish(serializable=self._isolation == "serializable", foreign_keys=self.foreign_keys)

    def replay(self, transaction: Transaction) -> None:
        """Run a transaction again.

        Raises:
            Deadlock: a statement had a result other than the first time.
        """
        self._metrics.replays += 1
        try:
            transaction.replay()
        except Deadlock:
            self._metrics.deadlocks += 1
            raise

    def certify(self, members: list[Transaction]) -> None:
        """Send transactions to the log, and replay those that conflict, until each transaction is committed or has failed.

        Raises:
            OutcomeUnknown: the log does not answer.
            Refusal: the log is not the one that the replica was made from.
        """
        while members:
            candidates = [member.candidate for member in members if member.candidate]
            answer = self._log.append(self.generation, self.base, candidates, strict=self._isolation == "snapshot")
            self._metrics.groups += 1
            if answer.status == "TURN":
                self._metrics.turns += 1
                time.sleep(TURN_PAUSE_S)
                if not answer.news:
                    continue
            if answer.status == "GENERATION" and self._adopts():
                continue
            accepted = self._accept(answer, candidates)
            for member in members[:accepted]:
                member.end()
            members = members[accepted:]
            if members:
                members = self._again(members)

    def _accept(self, answer: Certificate, candidates: Sequence[Candidate]) -> int:
        """Commit the candidates that the log accepted, after other sites' entries that precede them; return the candidates' number."""
        if refusal := objection(answer.status, self._log, self._replica.path, self.base.n, answer.head):
            raise refusal
        accepted = answer.accepted
        own, n = [], answer.head
        for candidate in candidates[:accepted]:
            if candidate.payload:
                n += 1
                own.append(Entry(n, candidate.txid, candidate.writes, candidate.payload))
        if accepted == len(candidates) and not answer.news:
            self._replica.record(self.db, own)
            self._commit(own)
        else:
            self.db.execute("ROLLBACK")
            if answer.status == "BEHIND":
                self.catch_up()
            self.apply([*answer.news, *own])
        if answer.status == "DONE":
            names = {entry.txid for entry in answer.news}
            accepted = max(place for place, candidate in enumerate(candidates, 1) if candidate.txid in names)
        payloads = [candidate.payload for candidate in candidates[:accepted] if candidate.payload]
        self._metrics.writes += len(payloads)
        self._metrics.bytes_sent += sum(map(len, payloads))
        self._lost = self._lost and accepted < len(candidates)
        return accepted

    def _commit(self, own: Sequence[Entry]) -> None:
        try:
            self.db.execute("COMMIT")
        except apsw.Error as error:
            message = f"{self._replica.path}: can't be written: {error}; the transaction is in the log, and this site will see it later"
            raise OutcomeUnknown(message) from error
        self._metrics.position = own[-1].n if own else self._metrics.position

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply entries in a SQLite transaction of their own."""
        if not entries:
            return
        self._replica.begin(self.db)
        try:
            self._metrics.applied += self._replica.apply(self.db, entries)
            self._commit(entries)
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def catch_up(self) -> None:
        """Apply all entries of the log that the replica lacks.

        Raises:
            RedisUnreachable: no answer.
        """
        entries = self._log.entries(self.generation, self._replica.position(self.db))
        while entries:
            self.apply(entries)
            # Fewer entries than requested mean that the log ends there, so no further request is necessary.
            entries = self._log.entries(self.generation, self._replica.position(self.db)) if len(entries) >= READ_ENTRIES else []

    def _adopts(self) -> bool:
        """Use the new generation of a log that was made anew but contains this replica's entries; return False if it lacks some.

        The follower records the new generation in the replica.
        """
        state = self._log.state(self.base.n)
        if not self.base.n or state.txid != self.base.last:
            return False
        self.generation = state.generation
        return True

    def _again(self, members: list[Transaction]) -> list[Transaction]:
        """Run transactions again on the new state, and return those with the same results; fail the others with `Deadlock`."""
        self._metrics.conflicts += 1
        self._close_transaction()
        self.base = self._replica.begin(self.db)
        left: list[Transaction] = []
        for member in members:
            try:
                member.start(self.db, self.base.n, len(left))
                self.replay(member)
                self.finish(member)
                left.append(member)
            except (Deadlock, apsw.ConstraintError) as error:
                member.undo()
                member.end(error if isinstance(error, Deadlock) else Deadlock(f"deadlock: another transaction came between: {error}"))
                self._lost = True
        return left

    def _close_transaction(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
