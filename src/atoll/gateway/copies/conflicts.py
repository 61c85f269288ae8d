"""Disagreements between sites about one resource, kept until the sites agree.

An id alone never identifies a copy. If two sites hold different resources under one id, or if a pending operation does not fit the object
that it would change, the gateway does nothing. It logs the reason and records it here for `atoll conflicts`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atoll.gateway.private_database import opened

LOG = logging.getLogger(__name__)

MAX_CONFLICTS = 1000
"""Greatest number of disagreements that are kept; a new one replaces the oldest."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conflict (
    kind TEXT NOT NULL, id TEXT NOT NULL, sites TEXT NOT NULL, why TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (kind, id)
);
"""


class Conflicts:
    """The disagreements that one gateway has met.

    Args:
        file: the SQLite file, in an existing directory; `:memory:` keeps nothing.
        now: returns the time in seconds since 1970.
        durable: see `opened`.

    Raises:
        sqlite3.Error: the file can't be read or written.
    """

    def __init__(self, file: Path | str = ":memory:", now: Callable[[], float] = time.time, *, durable: bool = True) -> None:
        self._database = opened(self, file, _SCHEMA, durable=durable)
        self._now = now

    def note(self, kind: str, identifier: str, sites: Iterable[str], why: str) -> None:
        """Record a disagreement, and log it as an error unless it is recorded already.

        Args:
            kind: the kind of the resource.
            identifier: the resource's id.
            sites: the sites that disagree.
            why: the reason, as one sentence.
        """
        names = ",".join(sorted(set(sites)))
        known = self._database.execute("SELECT sites, why FROM conflict WHERE kind = ? AND id = ?", (kind, identifier)).fetchone()
        if known == (names, why):
            return
        LOG.error("%s %s: %s (%s)", kind, identifier, why, names)
        self._database.execute("INSERT OR REPLACE INTO conflict VALUES (?, ?, ?, ?, ?)", (kind, identifier, names, why, self._now()))
        self._database.execute(
            "DELETE FROM conflict WHERE rowid NOT IN (SELECT rowid FROM conflict ORDER BY since DESC LIMIT ?)", (MAX_CONFLICTS,)
        )

    def resolve(self, kind: str, identifier: str) -> None:
        """Remove the disagreement about a resource whose sites agree."""
        self._database.execute("DELETE FROM conflict WHERE kind = ? AND id = ?", (kind, identifier))

    def list(self) -> list[dict[str, Any]]:
        """Return all disagreements, oldest first, for JSON."""
        rows = self._database.execute("SELECT kind, id, sites, why, since FROM conflict ORDER BY since, kind, id")
        return [
            {
                "kind": kind,
                "id": identifier,
                "sites": sites.split(","),
                "why": why,
                "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
            }
            for kind, identifier, sites, why, since in rows
        ]

    def close(self) -> None:
        """Close the database file."""
        self._database.close()
