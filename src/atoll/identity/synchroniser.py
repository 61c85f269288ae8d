"""The synchroniser of identity: a task that keeps Keystone's tables equal to the mesh's document, and has stale caches emptied."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from atoll import pokes
from atoll.identity import engines
from atoll.identity.bounds import FULL_FROM, FULL_MARK
from atoll.identity.engines import DatabaseError
from atoll.identity.replica import IdentityReplica
from atoll.identity.tables import KINDS, PREFIX
from atoll.identity.trust import TrustPolicy
from atoll.mesh.document import Document

LOG = logging.getLogger(__name__)

_TOKENS = frozenset(PREFIX + kind for kind in ("revocation", "assignment", "system_assignment", "membership"))
"""Kinds of records whose change may make a token invalid, or reduce its rights. Keystone writes a revocation whenever a user is disabled or
gets another password. Other kinds are left out, because checking all tokens again costs each service some milliseconds for each token."""

_KEYSTONE = "keystone"
"""The process whose caches hold more than tokens."""

LOOK_S = 5.0
"""Seconds after which the synchroniser reads the outbox even without a poke: not every writer pokes."""

APPLY_S = 2.0
"""Seconds that a request waits at most until the records that it needs are in Keystone's tables."""

FORGOTTEN_S = 0.02
"""Seconds for Keystone to empty its caches after a poke, when its tables were changed for a waiting request."""

AGAIN_S = 1.0
"""Seconds until the next attempt after an error of the database: another writer may hold it, or the disk may be full."""


_FAILURES = (DatabaseError, sqlite3.Error, OSError)
"""The errors of Keystone's database and of the document's store."""


class FullnessMark:
    """The mark by which Keystone refuses further data before the site's stream is full.

    Args:
        mark: the file that Keystone reads (`services/patches/keystone/bounds.py`).
    """

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self._shown = -1

    def show(self, fullness: float) -> None:
        """Write the fullness of this site's stream into the mark, or remove the mark.

        Args:
            fullness: the weight of the stream as a fraction of the greatest weight, 0 to 1.

        Raises:
            OSError: the mark can't be written.
        """
        percent = int(100 * fullness)
        if percent == self._shown:
            return
        if percent < FULL_FROM:
            self._mark.unlink(missing_ok=True)
        else:
            LOG.warning("this site's stream of the cloud's identity data is %d %% full", percent)
            new = self._mark.with_suffix(".new")
            new.write_text(str(percent), encoding="ascii")
            new.replace(self._mark)
        self._shown = percent


@dataclass(frozen=True)
class IdentitySettings:
    """The settings of a site's identity synchroniser.

    Attributes:
        database: the SQLAlchemy URL of Keystone's database; it may contain a password.
        sockets: the directory of the Unix sockets of the site's processes.
        local: the ids of the site's own service accounts and endpoints, which are not replicated.
        policy: the sites whose entries are accepted, by the cloud's YAML.
        founder: True for a site that the cloud was created with. Any other site waits for the document before it publishes its own data.
        look_s: seconds after which the outbox is read even without a poke; other sites that share the database can't poke.
    """

    database: str = field(repr=False)
    sockets: Path
    local: Collection[str]
    policy: TrustPolicy
    founder: bool
    look_s: float = LOOK_S


class IdentitySynchroniser:
    """Keeps Keystone's tables and the replicated document equal, as a task in the gateway's event loop.

    Args:
        settings: this site's settings.
        document: the replicated document of this site's mesh node.
    """

    def __init__(self, settings: IdentitySettings, document: Document) -> None:
        database = engines.database(settings.database)
        self._replica = IdentityReplica(database, document, settings.local, self._forget, policy=settings.policy)
        self._document = document
        self._sockets = settings.sockets
        self._founder = settings.founder
        self._look_s = settings.look_s
        self._poker = pokes.Poker()
        self._poked = pokes.receiver(settings.sockets / pokes.COMMITTED)
        self._wake = asyncio.Event()
        self._touched: set[tuple[str, str]] = set()
        self._changed_kinds: set[str] = set()
        self._prepared = False
        self._failed = False
        """True from a failure until the database's server answers again, or a pull succeeds; meanwhile no request may block the gateway."""
        self._fullness = FullnessMark(settings.sockets / FULL_MARK)
        self._quiet = asyncio.Event()
        """Set while Keystone's tables hold all changes of the document."""

    async def run(self) -> None:
        """Keep both equal, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._poked, self._on_poke)
        self._document.on_change(self._on_change)
        try:
            while True:
                try:
                    await self._work()
                except _FAILURES:
                    LOG.exception("Keystone's tables and the document could not be synchronised; trying again")
                    self._wake.set()  # until then, `pull` must not assume that the document is complete
                    await self._await_database()
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._look_s):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            self._prepared = False
            loop.remove_reader(self._poked)
            self.close()

    async def _await_database(self) -> None:
        """Wait in a thread until the database's server answers, so that the gateway continues to run."""
        self._failed = True
        await asyncio.sleep(AGAIN_S)
        while not await asyncio.to_thread(self._replica.is_reachable):
            await asyncio.sleep(AGAIN_S)
        self._failed = False

    def close(self) -> None:
        """Close the sockets and Keystone's database."""
        self._poked.close()
        self._poker.close()
        self._replica.close()

    def conflicts(self) -> list[dict[str, object]]:
        """Return the conflicts of names as JSON."""
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
        """Publish Keystone's commits in the document, if Keystone has poked."""
        if not self._prepared or self._failed or not (pokes.drain(self._poked) or self._wake.is_set()):
            return
        self._wake.set()
        try:
            self._replica.pull()
        except _FAILURES:
            self._failed = True
            LOG.exception("Keystone's changes could not be published; trying again")

    async def applied(self) -> bool:
        """Wait until Keystone's tables hold the document's changes and its caches are emptied; return False after `APPLY_S`."""
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
        """Make the site's services ask Keystone again about every token, since a key that checks tokens was added or removed."""
        self._poker.forget(self._sockets)

    async def _work(self) -> None:
        if not self._prepared:
            # A site that joins would otherwise publish its own administrator, whom the cloud knows with another password.
            if not self._founder and not any(True for kind in KINDS for _record in self._document.records(kind)):
                return
            self._replica.prepare()
            self._prepared = True
            self._poker.forget(self._sockets)
        self._replica.pull()
        self._failed = False
        self._wake.clear()
        self._fullness.show(self._document.fullness)
        touched, self._touched = self._touched, set()
        kinds, self._changed_kinds = self._changed_kinds, set()
        if not _TOKENS.isdisjoint(kinds):
            self._poker.forget(self._sockets)
        try:
            for _written in self._replica.steps(touched):
                await asyncio.sleep(0)  # requests go on in between
        except _FAILURES:
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
            self._changed_kinds |= {kind for kind, _key in found}
            if not self._replica.publishing:
                self._touched |= found
            self._quiet.clear()
            self._wake.set()

    def _forget(self, kinds: frozenset[str]) -> None:
        self._poker.forget(self._sockets, _KEYSTONE if _TOKENS.isdisjoint(kinds) else "*")
