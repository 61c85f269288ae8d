"""Counters of one store in one process."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Metrics:
    """Counters since the process opened the store. Readers take no lock; only one thread at a time writes a counter."""

    reads: int = 0
    """Transactions that ended without a write. They cost no round trip."""
    writes: int = 0
    """Transactions of this process that the log has accepted."""
    groups: int = 0
    """Calls of the append script, each a round trip."""
    largest_group: int = 0
    """Greatest number of transactions that shared one call."""
    conflicts: int = 0
    """Calls after which a transaction had to be replayed, because another site had written first."""
    replays: int = 0
    """Transactions whose recorded statements ran again."""
    deadlocks: int = 0
    """Transactions that failed with `Deadlock`, because their results differed when they ran again."""
    turns: int = 0
    """Calls that were repeated because the log had reserved the next append for another site."""
    set_aside: int = 0
    """Slow transactions that were undone and replayed, so that committed ones need not wait for them."""
    bytes_sent: int = 0
    """Bytes of the payloads of accepted transactions."""
    applied: int = 0
    """Entries of other sites and processes that this process applied to the replica."""
    restores: int = 0
    """Downloads of a snapshot."""
    position: int = 0
    """Number of the last log entry in the replica, as this process last saw it."""
    round_trip_ms: float = 0.0
    """Duration of the latest append call, in milliseconds."""

    def as_dict(self) -> dict[str, float]:
        """Return all counters by name."""
        return dataclasses.asdict(self)
