"""The durability of each of the gateway's own files."""

from contextlib import closing
from typing import Any

import pytest

from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_store import PendingStore

MAKERS: dict[str, Any] = {
    "ledger": Ledger,
    "conflicts": Conflicts,
    "names": lambda file, **options: NameClashes(None, Conflicts(), file, **options),
    "pending": PendingStore,
    "pending of its user": lambda file, **options: Pending(file, None, lambda: 0.0, object(), **options)._store,
}
FULL, NORMAL = 2, 1


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("options", "synchronous"), [({}, FULL), ({"durable": True}, FULL), ({"durable": False}, NORMAL)])
def test_file_is_durable_unless_it_is_told_otherwise(tmp_path, name, options, synchronous):
    with closing(MAKERS[name](tmp_path / "x.db", **options)) as made:
        pragma = {each: made._database.execute(f"PRAGMA {each}").fetchone()[0] for each in ("journal_mode", "synchronous")}
    # FULL is durable with a write-ahead log only: with a rollback journal its end is not flushed.
    assert pragma == {"journal_mode": "wal", "synchronous": synchronous}
