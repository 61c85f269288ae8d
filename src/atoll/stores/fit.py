"""The check that a replica belongs to its log: its entries must be the first entries of the log, or nothing may be written to it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from atoll.stores.errors import LostTail, Refusal, Reseeded, Trimmed


class State(NamedTuple):
    """The state of a log at a replica's position."""

    generation: str
    """Generation of the log; empty if there is no log."""
    head: int
    """Position of the last entry; 0 if the log has no entry."""
    first: int
    """Position of the first entry that compaction has not deleted; 0 if the log has no entry."""
    txid: bytes
    """Id of the transaction at the replica's position; empty if the log has no entry at that position."""


def objection(status: str, log: object, path: Path, n: int, head: int) -> Refusal | None:
    """Return the refusal that follows from a script's status; `None` if the replica belongs to the log.

    Args:
        status: the status, as in lua/append.lua.
        log: the log, for messages.
        path: the replica, for messages.
        n: the replica's position.
        head: the position of the log's last entry.
    """
    match status:
        case "LOST":
            return LostTail(f"{log}: it ends at entry {head}, and {path} holds {n} entries: Redis has lost commits: reseed the log")
        case "FORKED":
            return LostTail(f"{log}: entry {n} differs from the one in {path}: Redis has lost commits and accepted others: reseed the log")
        case "GENERATION":
            return Reseeded(f"{log}: it was made anew, and {path} may hold entries that it lacks: copy it if needed, and delete it")
        case "TRIMMED":
            return Trimmed(f"{log}: entries after {n} were deleted, which {path} needs: the replica is replaced by the snapshot: try again")
    return None


def judge(log: object, path: Path, position: tuple[int, bytes], generation: str, state: State) -> Refusal | None:
    """Return the refusal if a replica does not belong to its log; `None` if the replica's entries are the first entries of the log.

    Args:
        log: the log, for messages.
        path: the replica, for messages.
        position: the replica's position, and the id of its last transaction.
        generation: the generation of the log from which the replica was made.
        state: the log's state at that position.
    """
    n, last = position
    status = "OK"
    if not state.generation or state.head < n:
        status = "LOST"
    elif state.generation != generation and (n == 0 or state.txid != last):
        status = "GENERATION"
    elif state.first > max(n, 1):
        status = "TRIMMED"
    elif n and state.txid != last:
        status = "FORKED"
    return objection(status, log, path, n, state.head)
