"""Identity at a site that shares the Keystone database of another site, its owner.

The owner alone captures, publishes and applies identity data: two sites that did so on the same tables would publish each change twice, and
undo each other's. All other sites of the database see its tables change, and only have the caches of their processes emptied.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from sqlalchemy.engine import make_url

from atoll import pokes
from atoll.stores.url import parse

LOG = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds after which the site looks again whether Keystone's tables have changed."""


class IdentityTables(Protocol):
    """The part of a gateway that knows Keystone's tables: `IdentitySynchroniser`, or `SharedIdentity`."""

    async def run(self) -> None:
        """Do the work, until cancelled."""

    def pull(self) -> None:
        """Publish Keystone's commits in the document."""

    async def applied(self) -> bool:
        """Wait until Keystone's tables hold the document's changes; return False if that takes too long."""

    def conflicts(self) -> list[dict[str, object]]:
        """Return the conflicts of names as JSON."""

    def forget_tokens(self) -> None:
        """Make the site's services ask Keystone again about every token."""


class SharedIdentity:
    """Follows Keystone's tables that another site keeps equal to the replicated document.

    Args:
        database: the URL of Keystone's database on Redis; it may contain a password.
        sockets: the directory of the Unix sockets of the site's processes.
    """

    def __init__(self, database: str, sockets: Path) -> None:
        self._replica = parse(make_url(database)).replica
        self._sockets = sockets
        self._poker = pokes.Poker()
        self._position = -1

    async def run(self) -> None:
        """Empty the caches of the site's processes whenever the replica has reached another position of the log, until cancelled."""
        try:
            while True:
                position = self._read()
                if position != self._position:
                    self._position = position
                    self.forget_tokens()
                await asyncio.sleep(LOOK_S)
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket from which pokes are sent."""
        self._poker.close()

    def _read(self) -> int:
        """Return the replica's position in the log; -1 if there is no replica."""
        try:
            with closing(sqlite3.connect(f"file:{self._replica}?mode=ro", uri=True)) as replica:
                return int(replica.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error:
            LOG.debug("the replica %s can't be read now", self._replica, exc_info=True)
            return self._position

    def pull(self) -> None:
        """Do nothing: the owner publishes this site's commits."""

    async def applied(self) -> bool:
        """Return True: the owner applies other sites' changes, and this site can't hurry it."""
        return True

    def conflicts(self) -> list[dict[str, object]]:
        """Return nothing: the owner knows the conflicts."""
        return []

    def forget_tokens(self) -> None:
        """Make the site's services ask Keystone again about every token."""
        self._poker.forget(self._sockets)
