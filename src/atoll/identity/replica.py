"""The replica of identity: keeps Keystone's tables at this site and the mesh's document equal, in both directions.

*Pulling* publishes Keystone's changes in the document; *pushing* applies other sites' changes to the tables. For both, the table
`atoll_applied` holds the content on which the two last agreed: where the rows differ from it, they were changed here; where the document
differs from it, it was changed elsewhere. So a change here and one there of different fields of one record both survive, whichever is seen
first.

No acknowledged change is lost between the two: an entry leaves the outbox when the document has it on disk, and a process that dies in
between continues there. If the database fails in between, the process remembers what it has published: published again, a change would get
a later timestamp, and undo one that another site has made meanwhile. Before a push overwrites rows, it looks for changes that were not
pulled yet, in the same transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

from atoll.identity import outbox, rows
from atoll.identity.bounds import KEEP_REVOCATIONS_S
from atoll.identity.desired_state import Conflict, DesiredState
from atoll.identity.engines import Collided, IdentityDatabase, RowRefused, Session
from atoll.identity.references import Reference
from atoll.identity.rows import Content
from atoll.identity.tables import KINDS, NO_DOMAIN, PREFIX, Key, ReplicatedTable, decode, encode
from atoll.identity.trust import TrustedRecords, TrustPolicy
from atoll.mesh.clock import ms_of
from atoll.mesh.document import Document
from atoll.mesh.entry import PRESENT, Json
from atoll.mesh.record import Change
from atoll.mesh.refusals import Refused

_LOG = logging.getLogger(__name__)

CHUNK = 100
"""Records that are written in one transaction: a bound for the wait of Keystone's writers."""

_PULL_CHUNK = 1000

_ATTEMPTS = 3
"""Greatest number of attempts to write records that other transactions write at the same time; after that, `DatabaseError` is raised."""

_REVOCATION = PREFIX + "revocation"
KEEP_REVOCATIONS_MS = KEEP_REVOCATIONS_S * 1000
"""Milliseconds after which the records of revocations are deleted. Each site's Keystone removes its own rows sooner."""

_EXPIRE_EVERY_S = 3600.0

_PUBLISH_BYTES = 512 * 1024
"""Approximate size of the changes that one write publishes, in bytes."""

Agreement = tuple[str, Key, Content | None]


class IdentityReplica:
    """Keystone's tables at one site, used only by the thread that uses the document.

    Attributes:
        publishing: True while the replica writes this site's own changes into the document; their records need no `push`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators
        self,
        database: IdentityDatabase,
        document: Document,
        local: Collection[str],
        applied: Callable[[frozenset[str]], None],
        now_s: Callable[[], float] = time.time,
        policy: TrustPolicy | None = None,
    ) -> None:
        """Prepare a replica; `prepare` opens the database.

        Args:
            database: Keystone's database.
            document: the mesh's document, with the rules of `atoll.identity.rules`.
            local: ids of users and endpoints that only this site has: they, and records that refer to them, are neither published nor
                accepted.
            applied: called with the kinds of pushed records after the commit, since caches hold older ones.
            now_s: the time of day, in seconds since 1970.
            policy: the sites whose entries are accepted; `None` for all.
        """
        self._database = database
        self._document = document
        self._local = frozenset(local)
        self._applied = applied
        self._now_s = now_s
        homes = TrustedRecords(document, policy or TrustPolicy())
        document.judge = homes.record
        self._desired = DesiredState(homes, self._is_local)
        self._todo: dict[Reference, str] = {}
        self._failed: dict[Reference, str] = {}
        self._unrecorded: dict[Reference, Content | None] = {}  # published, but no transaction has recorded the agreement yet
        self._expired_at = 0.0
        self.publishing = False

    # --- Interface

    def prepare(self) -> None:
        """Install the triggers, and make the document and the tables agree. Call this first, and again if it fails.

        Rows of which the document has no record are published with a stamp older than any change. Rows that have a record are overwritten
        with it: a site that joins others should have their document before this is called.

        Raises:
            DatabaseError: the database can't be used, or is not Keystone's.
        """
        if not self._database.install():
            self.pull()
        with self._database.writing() as session:
            self._forget_unknown(session)
        with self._database.reading() as session:
            found = list(self._scan(session))
        agreements = self._publish(found)
        with self._database.writing() as session:
            self._agree(session, agreements)
        self._recorded(agreements)
        self._expire()
        self.push((kind, record.key) for kind in KINDS for record in self._document.records(kind, deleted=True))

    def pull(self) -> int:
        """Publish the changes of this site's Keystone in the document.

        Returns:
            The number of changed records.

        Raises:
            DatabaseError: the database fails; nothing is lost.
            sqlite3.Error: the document's store fails; nothing is lost.
        """
        changed = 0
        more = True
        while more:
            with self._database.reading() as session:
                touched, numbers, more = outbox.pending(session, _PULL_CHUNK)
                found = [self._changes(session, kind, keys) for kind, keys in touched.items()]
            if not numbers:
                break
            agreements = self._publish(found)
            self._note((kind, encode(key)) for kind, key, _ in agreements)
            with self._database.writing() as session:
                self._agree(session, agreements)
                outbox.forget(session, numbers)
            self._recorded(agreements)
            self._settle(agreements)
            changed += sum(len(changes) for changes, _ in found)
        if self._now_s() - self._expired_at > _EXPIRE_EVERY_S:
            self._expire()
        return changed

    def push(self, touched: Iterable[Reference]) -> int:
        """Apply changed records of the document to the tables.

        Args:
            touched: kinds and keys of changed records, as `Document.on_change` gives them; they may include kinds without a table, and
                records that this site itself wrote.

        Returns:
            The number of written records.

        Raises:
            DatabaseError: the database fails; the next call does the rest.
        """
        self.pull()
        return sum(self.steps(touched))

    def steps(self, touched: Iterable[Reference]) -> Iterator[int]:
        """Apply changed records like `push`, but without `pull`; yield the number of written records after each transaction."""
        self._note(touched)
        self._todo |= self._failed
        self._failed = {}
        again = True
        while self._todo:
            chunk = list(islice(self._todo, CHUNK))
            for reference in chunk:
                del self._todo[reference]  # so that a change during the transaction can add it again
            try:
                written = self._apply(chunk)
            except BaseException:
                self._todo |= dict.fromkeys(chunk, "")
                raise
            yield written
            if not self._todo and again:  # a name may have become free by now
                again = False
                self._todo, self._failed = self._failed, {}
        for kind, key in self._failed:
            _LOG.warning("%s %.100s is refused by Keystone's tables: %s", kind, key, self._failed[kind, key])

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts of names, with the records that were renamed."""
        return self._desired.conflicts()

    def close(self) -> None:
        """Close the database, if it is open."""
        self._database.close()

    def is_reachable(self) -> bool:
        """Return whether the database's server answers; this may take seconds. Any thread may call it."""
        return self._database.is_reachable()

    # --- From the tables to the document

    def _is_local(self, kind: str, key: str, fields: Mapping[str, Json]) -> bool:
        if kind == PREFIX + "project" and key == NO_DOMAIN:
            return True
        columns = (fields.get(name) for name in KINDS[kind].columns)
        return not self._local.isdisjoint(value for value in (*decode(key), *columns) if isinstance(value, str))

    def _changes(self, session: Session, kind: str, keys: list[Key], *, scanning: bool = False) -> tuple[list[Change], list[Agreement]]:
        """Return the changes that this site made to some records, and the resulting contents.

        Args:
            session: an open transaction.
            kind: the kind of the records.
            keys: the keys of the records.
            scanning: whether all rows are compared, not only those that were just written.
        """
        table = KINDS[kind]
        now, before = rows.read(session, table, keys), outbox.applied(session, kind, keys)
        changes, agreements = [], []
        for key in keys:
            here, agreed, name = now.get(key), before.get(key), encode(key)
            if here is not None and agreed is not None:
                here = session.reconciled(here, agreed)
            published = self._unrecorded.get((kind, name), agreed)
            if here == agreed == published or self._is_local(kind, name, here or agreed or {}) or (table.deleted_locally and here is None):
                continue
            record = self._document.record(kind, name)
            if not (scanning and agreed is None and record is not None):
                stamp = 0 if scanning and agreed is None else None
                fields = _fields(published, here)
                if record is not None and record.present == (here is not None):  # a process that died here may have written this already
                    own = self._document.author
                    fields = {
                        each: value for each, value in fields.items() if (record.fields.get(each), record.authors.get(each)) != (value, own)
                    }
                changes.append(Change(kind, name, fields, stamp))
            agreements.append((kind, key, here))
        return changes, agreements

    def _publish(self, found: Iterable[tuple[list[Change], list[Agreement]]]) -> list[Agreement]:
        """Write changes into the document; return the contents on which document and tables then agree."""
        found = list(found)
        changes = [change for some, _ in found for change in some if change.fields]
        refused: set[Reference] = set()
        for batch in _batches(changes):
            self.publishing = True
            try:
                self._document.write(batch)
            except (Refused, ValueError, TypeError):
                refused.update(self._publish_singly(batch))
            finally:
                self.publishing = False
        agreements = [(kind, key, here) for _, some in found for kind, key, here in some if (kind, encode(key)) not in refused]
        self._unrecorded |= {(kind, encode(key)): here for kind, key, here in agreements}
        return agreements

    def _publish_singly(self, changes: Iterable[Change]) -> Iterator[Reference]:
        for change in changes:
            try:
                self._document.write([change])
            except (Refused, ValueError, TypeError) as error:
                _LOG.error("%s %.100s is not published to the other sites: %s", change.kind, change.key, error)
                yield change.kind, change.key

    def _settle(self, agreements: Iterable[Agreement]) -> None:
        """Remove the records whose rows already equal the document from the records to be written, to save a transaction."""
        for kind, key, here in agreements:
            if self._desired.content(kind, name := encode(key)) == here:
                self._todo.pop((kind, name), None)

    def _agree(self, session: Session, agreements: Iterable[Agreement]) -> None:
        for kind, key, here in agreements:
            outbox.agree(session, kind, key, here)

    def _recorded(self, agreements: Iterable[Agreement]) -> None:
        """Note that a transaction with these agreements was committed."""
        for kind, key, _ in agreements:
            self._unrecorded.pop((kind, encode(key)), None)

    def _forget_unknown(self, session: Session) -> None:
        """Delete agreements about records that the document no longer has."""
        for kind, table in KINDS.items():
            for key in (rows.typed(table, name) for name in outbox.agreed_keys(session, kind)):
                if self._document.record(kind, encode(key)) is None:
                    outbox.agree(session, kind, key, None)

    def _scan(self, session: Session) -> Iterator[tuple[list[Change], list[Agreement]]]:
        """Compare all rows with the contents on which document and tables last agreed; yield the differences."""
        for kind, table in KINDS.items():
            agreed = {session.canonical(key): key for key in (rows.typed(table, name) for name in outbox.agreed_keys(session, kind))}
            keys = list(dict.fromkeys([*(agreed.get(key, key) for key in rows.keys(session, table)), *agreed.values()]))
            for start in range(0, len(keys), _PULL_CHUNK):
                yield self._changes(session, kind, keys[start : start + _PULL_CHUNK], scanning=True)

    def _expire(self) -> None:
        """Delete the records of this site's old revocations, and rows that Keystone marked as deleted and keeps."""
        self._expired_at = self._now_s()
        oldest = int(self._expired_at * 1000) - KEEP_REVOCATIONS_MS
        records = self._document.records(_REVOCATION)
        old = [record for record in records if 0 < ms_of(record.created) < oldest and record.authors[PRESENT] == self._document.author]
        if old:
            self._document.write(Change(_REVOCATION, record.key, {PRESENT: False}) for record in old)
        before = datetime.fromtimestamp(self._expired_at - _EXPIRE_EVERY_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
        with self._database.writing() as session:
            for table in KINDS.values():
                if table.deleted_column:
                    rows.purge(session, table, before)

    # --- From the document to the tables

    def _note(self, touched: Iterable[Reference]) -> None:
        """Add changed records, and those that depend on them, to those to be written."""
        self._todo |= dict.fromkeys(self._ordered(self._desired.note(touched)), "")

    def _ordered(self, references: Iterable[Reference]) -> list[Reference]:
        """Return records in the order of writing: deletions, children first, which frees names; then the others, parents first."""
        order = {kind: number for number, kind in enumerate(KINDS)}
        going = {reference: reference not in self._desired for reference in references}
        return sorted(going, key=lambda each: (not going[each], -order[each[0]] if going[each] else order[each[0]], each[1]))

    def _apply(self, chunk: list[Reference]) -> int:
        """Write some records in one transaction; if the database refuses one of them, each in its own."""
        try:
            written = self._write_again(chunk)
        except RowRefused as error:
            if len(chunk) > 1:
                return sum(self._apply([reference]) for reference in chunk)
            self._failed[chunk[0]] = str(error)
            return 0
        if written:
            self._applied(frozenset(kind for kind, _ in written))
        return len(written)

    def _write_again(self, chunk: list[Reference]) -> list[Reference]:
        """Write some records, and repeat this if other transactions have written the same records at the same time."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(Collided):
                return self._write(chunk)
        return self._write(chunk)

    def _write(self, chunk: list[Reference]) -> list[Reference]:
        by_kind: dict[str, list[Key]] = {}
        for kind, name in chunk:
            by_kind.setdefault(kind, []).append(rows.typed(KINDS[kind], decode(name)))
        with self._database.writing() as session:
            session.begin_applying()
            seen = self._pull_first(session)
            before = {
                (kind, encode(key)): old for kind, keys in by_kind.items() for key, old in outbox.applied(session, kind, keys).items()
            }
            wanted = [(kind, name, before.get((kind, name)), self._desired.content(kind, name)) for kind, name in chunk]
            pairs = [(kind, rows.typed(KINDS[kind], decode(name)), old, new) for kind, name, old, new in wanted if old != new]
            for kind, key, old, new in pairs:
                if old and new and _is_renamed(KINDS[kind], old, new):
                    rows.conceal_name(session, KINDS[kind], key)
            for kind, key, old, new in pairs:
                if new is None:
                    rows.delete(session, KINDS[kind], key)
                else:
                    rows.write(session, KINDS[kind], key, old, new)
                outbox.agree(session, kind, key, new)
            session.end_applying()
            if not self._database.excludes_writers:
                self._check_alone(session, seen, {(kind, encode(key)) for kind, key, _, _ in pairs})
        self._unrecorded = {}  # `_pull_first` has recorded all that are still in the outbox
        return [(kind, encode(key)) for kind, key, _, _ in pairs]

    def _check_alone(self, session: Session, seen: Collection[int], written: Collection[Reference]) -> None:
        """Refuse to commit if another transaction has changed a written record since `_pull_first`: its change could be overwritten.

        Raises:
            Collided: a record was changed.
        """
        for number, kind, key in outbox.entries(session):
            if number not in seen and (kind, encode(key)) in written:
                raise Collided(f"{kind} {key} was changed meanwhile")

    def _pull_first(self, session: Session) -> Collection[int]:
        """Publish all changes made here since the last pull, before rows are overwritten; the outbox keeps its entries.

        Returns:
            The numbers of these entries.
        """
        touched, numbers, _more = outbox.pending(session, outbox.ALL)
        found = [self._changes(session, kind, keys) for kind, keys in touched.items()]
        if any(agreements for _, agreements in found):
            agreements = self._publish(found)
            self._agree(session, agreements)
            self._note((kind, encode(key)) for kind, key, _ in agreements)
        return numbers


def _is_renamed(table: ReplicatedTable, old: Content, new: Content) -> bool:
    if table.name is None:
        return False
    names = {old[table.name.field], new[table.name.field]}
    return len(names) == 2 and None not in names


def _fields(agreed: Content | None, here: Content | None) -> dict[str, Json]:
    if here == agreed:
        return {}
    if here is None:
        return {PRESENT: False}
    if agreed is None:
        return here | {PRESENT: True}
    return rows.difference(agreed, here)


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    size = 0
    for change in changes:
        size += len(str(change.fields))
        batch.append(change)
        if size > _PUBLISH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
