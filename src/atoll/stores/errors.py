"""Errors of the store. Each message is one line of text. Unless the message says otherwise, nothing was changed."""

from __future__ import annotations

import sqlite3


class StoreError(sqlite3.OperationalError):
    """An error of the store itself, rather than of a statement."""


class BadURL(StoreError, ValueError):
    """A database URL with a part that is missing, unknown or wrong."""


class Deadlock(StoreError):
    """A transaction that conflicts with an earlier commit. It was rolled back; the caller may run it again. oslo.db raises DBDeadlock."""


class Inherited(StoreError):
    """A connection that the process's parent opened before it forked. Connection pools replace it."""


class RedisUnreachable(StoreError):
    """Redis did not answer, and the transaction was not sent."""


class OutcomeUnknown(StoreError):
    """A transaction was sent and no answer arrived: the log may or may not contain it."""


class Refusal(StoreError):
    """A state in which the store accepts no writes until an operator has acted."""


class WrongServer(Refusal):
    """A Redis server whose version or settings do not allow a log."""


class NotDurable(Refusal):
    """A Redis server that would lose commits when it restarts."""


class WrongLog(Refusal):
    """A log of another cloud or another format, or a Redis key that holds no log."""


class NotAReplica(Refusal):
    """A file that is not a replica of this log."""


class ReplicaEdited(Refusal):
    """A replica that something other than this store has changed."""


class LostTail(Refusal):
    """A log that lacks commits of this replica: Redis, or a failover to another server, has lost them."""


class Reseeded(Refusal):
    """A log that was made anew from another replica, and lacks this replica's last commits."""


class Trimmed(Refusal):
    """A log that no longer contains the entries after this replica's position."""
