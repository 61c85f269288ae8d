"""Identity at this site: Keystone's tables kept equal to the mesh's document, and caches told when they are out of date."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

from atoll import pokes
from atoll.gateway.options import Options
from atoll.mesh.identity.bounds import FULL_FROM, FULL_MARK
from atoll.mesh.identity.homes import Policy
from atoll.mesh.identity.replica import IdentityReplica
from atoll.mesh.identity.tables import KINDS, PREFIX
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

_TOKENS = frozenset(PREFIX + kind for kind in ("revocation", "assignment", "system_assignment", "membership"))
"""Kinds of records after whose change a token may be good no more, or for less. Keystone notes a revocation whenever a user is disabled or
gets another password. Not any change counts: to check all tokens anew costs each service some milliseconds for each of them."""

_KEYSTONE = "keystone"
"""The process whose caches hold more than tokens."""

LOOK_S = 5.0
"""Seconds after which it looks into the outbox though nobody has poked it: not every writer does."""

APPLY_S = 2.0
"""Seconds that a request waits at most until what it needs is in Keystone's tables."""

FORGOTTEN_S = 0.02
"""Seconds that Keystone has, after its tables were changed for a request that waits, to empty its caches, of which it is only poked."""

AGAIN_S = 1.0
"""Seconds until it tries again what the database refused: another writer may hold it, or the disk be full."""


class Fullness:
    """Has Keystone take nothing more, before there is no room for it.

    Args:
        mark: the file that Keystone looks at (`services/keystone_bounds.py`).
    """

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self._shown = -1

    def show(self, fullness: float) -> None:
        """Write how full this site's stream is, if that matters.

        Args:
            fullness: 0 to 1.

        Raises:
            OSError: the mark can't be written.
        """
        percent = int(100 * fullness)
        if percent == self._shown:
            return
        if percent < FULL_FROM:
            self._mark.unlink(missing_ok=True)
        else:
            LOG.warning("this site's part of the cloud's identity is %d %% full", percent)
            new = self._mark.with_suffix(".new")
            new.write_text(str(percent), encoding="ascii")
            new.replace(self._mark)
        self._shown = percent


class Identity:
    """Runs the replica in the gateway's event loop.

    Args:
        options: of the gateway.
        mesh: has the document.
        founder: True for a site that the cloud was made with; any other waits for the document before it says what it has itself.
    """

    def __init__(self, options: Options, mesh: Mesh, *, founder: bool) -> None:
        local = (*options.local_users, *options.local_endpoints)
        policy = Policy.of(options.site, options.trust, options.homed)
        self._replica = IdentityReplica(options.identity_database, mesh.document, local, self._forget, policy=policy)
        self._document = mesh.document
        self._sockets = options.sockets
        self._founder = founder
        self._poker = pokes.Poker()
        self._poked = pokes.receiver(options.sockets / pokes.COMMITTED)
        self._wake = asyncio.Event()
        self._touched: set[tuple[str, str]] = set()
        self._prepared = False
        self._fullness = Fullness(options.sockets / FULL_MARK)
        self._quiet = asyncio.Event()
        """Set while all that was touched is in Keystone's tables."""

    async def run(self) -> None:
        """Keep both equal, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._poked, self._on_poke)
        self._document.on_change(self._on_change)
        try:
            while True:
                try:
                    await self._work()
                except (sqlite3.Error, OSError):
                    LOG.exception("identity can't be brought up to date now, and is tried again")
                    await asyncio.sleep(AGAIN_S)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            self._prepared = False
            loop.remove_reader(self._poked)
            self._poked.close()
            self._replica.close()

    def conflicts(self) -> list[dict[str, object]]:
        """Names that were given twice, for JSON."""
        return [
            {
                "kind": each.kind,
                "scope": each.scope,
                "name": each.name,
                "kept": each.kept,
                "renamed": each.renamed,
                "new_name": each.new_name,
                "sites": list(each.sites),
            }
            for each in self._replica.conflicts()
        ]

    def pull(self) -> None:
        """Bring what Keystone has committed into the document, if Keystone has said that there is something."""
        if not self._prepared or not (pokes.drain(self._poked) or self._wake.is_set()):
            return
        self._wake.set()
        try:
            self._replica.pull()
        except (sqlite3.Error, OSError):
            LOG.exception("what Keystone has written can't be told now, and is tried again")

    async def applied(self) -> bool:
        """Wait until what the document has is in Keystone's tables, and Keystone's caches know; False if that takes too long."""
        if self._quiet.is_set():
            return True
        with suppress(TimeoutError):
            if self._prepared:
                async with asyncio.timeout(APPLY_S):
                    await self._quiet.wait()
                    await asyncio.sleep(FORGOTTEN_S)
                    return True
        return False

    def forget_tokens(self) -> None:
        """Have the site's services ask Keystone anew about every token: a key by which it checks them has come or gone."""
        self._poker.forget(self._sockets)

    async def _work(self) -> None:
        if not self._prepared:
            # Who joins would else tell of an administrator of its own, whom the cloud knows with another password.
            if not self._founder and not any(True for kind in KINDS for _record in self._document.records(kind)):
                return
            self._replica.prepare()
            self._prepared = True
            self._poker.forget(self._sockets)
        self._replica.pull()
        self._fullness.show(self._document.fullness)
        touched, self._touched = self._touched, set()
        if not _TOKENS.isdisjoint(kind for kind, _key in touched):
            self._poker.forget(self._sockets)
        try:
            for _written in self._replica.steps(touched):
                await asyncio.sleep(0)  # requests go on in between
        except sqlite3.Error:
            self._touched |= touched
            raise
        if not self._touched:
            self._quiet.set()

    def _on_poke(self) -> None:
        pokes.drain(self._poked)
        self._wake.set()

    def _on_change(self, touched: frozenset[tuple[str, str]]) -> None:
        found = {reference for reference in touched if reference[0] in KINDS}
        if found:
            self._touched |= found
            self._quiet.clear()
            self._wake.set()

    def _forget(self, kinds: frozenset[str]) -> None:
        self._poker.forget(self._sockets, _KEYSTONE if _TOKENS.isdisjoint(kinds) else "*")
