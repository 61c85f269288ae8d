"""Operations for the operator of a log: create it from a database, compact it, verify a replica, restore commits that Redis has lost."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import NamedTuple

import apsw

from atoll.stores import entry
from atoll.stores.entry import Entry
from atoll.stores.errors import LostTail, NotAReplica, ReplicaEdited, WrongLog
from atoll.stores.log import Log
from atoll.stores.metrics import Metrics
from atoll.stores.query import row, rows
from atoll.stores.replica import Identity, Position, Replica
from atoll.stores.store import Store
from atoll.stores.url import Settings

KEEP_ENTRIES = 1000
"""Number of newest entries that compaction keeps, so that sites that are a little behind need no snapshot."""


class Reseeding(NamedTuple):
    """The outcome of a `reseed`."""

    restored: int
    """Number of entries that were restored to the log."""
    discarded: int
    """Number of the log's entries that were discarded, because this replica lacked them."""
    anew: bool
    """True if the log was made anew. Then replicas with entries that the new log lacks must be deleted."""


def seed(settings: Settings, database: Path) -> int:
    """Create a log from the content of an ordinary SQLite database, and return the number of the database's tables.

    The database is only read. No program may write to it meanwhile.

    Raises:
        WrongLog: the log exists already; nothing was changed.
        NotAReplica: the database can't be read, or the replica exists already.
        Refusal: the server or the log is not usable.
    """
    if settings.replica.exists():
        raise NotAReplica(f"{settings.replica} exists already: expected a new file, because a new log begins with a new replica")
    log = Log(settings, Metrics())
    attached = log.attach(create=True)
    if log.state(0).head:
        raise WrongLog(f"{log}: it has entries already: choose another name, or delete it")
    replica = Replica(settings.replica, settings.history)
    first = Entry(1, uuid.uuid4().bytes, entry.SCHEMA, entry.pack(()))
    with replica.exclusive("open"):
        try:
            db = _copied(database, replica)
            replica.initialise(db, Identity(settings.cloud, settings.log, attached.generation), Position(1, first.txid))
            with db:
                db.execute("INSERT INTO atoll_store_log VALUES (?, ?, ?, ?)", first)
            tables = len(rows(db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'atoll\\_store%' ESCAPE '\\'"))
            done = log.replace(attached.generation, attached.stride, 0, replica.dump(db), [first])
            db.close()
        except BaseException:
            _delete(settings.replica)
            raise
        if not done:
            _delete(settings.replica)
            raise WrongLog(f"{log}: another site has created it at the same moment: nothing was changed")
    return tables


def _copied(database: Path, replica: Replica) -> apsw.Connection:
    try:
        source = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        row(source, "SELECT count(*) FROM sqlite_schema")
    except apsw.Error as error:
        raise NotAReplica(f"{database}: can't be read as a SQLite database: {error}") from error
    db = replica.open()
    with db.backup("main", source, "main") as backup:
        backup.step(-1)
    source.close()
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    return db


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def compact(store: Store, keep: int = KEEP_ENTRIES) -> int:
    """Store a snapshot of the replica in Redis and delete older entries; return the number of deleted entries.

    Args:
        store: the store.
        keep: the number of newest entries to keep.

    Raises:
        LostTail: the log does not contain this replica's entries; nothing was changed.
        RedisUnreachable: Redis does not answer.
    """
    store.catch_up()
    db = store.replica.open()
    try:
        with store.group.alone() as position:
            snapshot = store.replica.dump(db)
        if not position.n:
            return 0
        cut = store.log.compact(store.group.writer.generation, position, max(1, position.n - keep), snapshot)
    finally:
        db.close()
    if cut < 0:
        raise LostTail(f"{store.log}: it lacks entries of {store.replica.path}: nothing was changed: reseed the log, or delete the replica")
    return cut


def reseed(store: Store, *, discard: bool = False) -> Reseeding:
    """Restore commits that the log has lost and this replica holds. Run this at the site whose replica has the most entries.

    If the log's entries are the first entries of this replica, the lost entries are appended, and all sites continue. If the log is
    missing, or has other entries in place of the lost ones, it is made anew from this replica. A site whose replica has entries that the
    new log lacks refuses writes until that replica's file is deleted.

    Args:
        store: the store of the site whose replica has the most entries.
        discard: whether entries of the log that this replica lacks may be discarded.

    Raises:
        LostTail: the log has entries that this replica lacks, and `discard` is false; or another site changed the log. Nothing was changed.
        RedisUnreachable: Redis does not answer.
    """
    with store.group.alone() as position:
        history = store.replica.history(store.group.writer.db)
        state = store.log.state(position.n)
        if state.generation and state.head <= position.n and (healed := _heal(store, position, history, state.head)) is not None:
            result = Reseeding(healed, 0, anew=False)
        else:
            result = _replace(store, position, history, state.head, discard=discard)
    store.follower.resume()
    return result


def _heal(store: Store, position: Position, history: list[Entry], head: int) -> int | None:
    """Append the entries that the log has lost; return their number. Return `None` if the log differs, or the history is too short."""
    names = {kept.n: kept.txid for kept in history}
    if head not in names:
        return None
    if store.log.state(head).txid != names[head]:
        return None
    lost = [kept for kept in history if kept.n > head]
    if lost and not store.log.heal(store.group.writer.generation, (head, names[head]), lost):
        raise LostTail(f"{store.log}: it changed during the reseed: stop the other sites' services first")
    return position.n - head


def _replace(store: Store, position: Position, history: list[Entry], head: int, *, discard: bool) -> Reseeding:
    common = 0  # the position of the last entry that log and replica share
    for kept in reversed(history):
        if kept.n <= head and store.log.state(kept.n).txid == kept.txid:
            common = kept.n
            break
    if head > common and not discard:
        where = f"{head - common} of its entries are not in {store.replica.path}"
        message = f"{store.log}: {where}: nothing was changed: discard them with --discard"
        raise LostTail(message)
    if not history:
        raise NotAReplica(f"{store.replica.path} has kept no entry: expected at least one, with which the new log can begin")
    generation = uuid.uuid4().hex
    db = store.replica.open()
    try:
        snapshot = store.replica.dump(db)
    finally:
        db.close()
    if not store.log.replace(generation, store.series.stride, head, snapshot, history):
        raise LostTail(f"{store.log}: it changed during the reseed: stop the other sites' services first")
    store.replica.adopt(store.group.writer.db, generation)
    store.group.writer.generation = generation
    return Reseeding(position.n - common, head - common, anew=True)


def verify(store: Store) -> list[str]:
    """Make a second replica from the log's snapshot and entries, and return the names of the tables in which this replica differs from it.

    Raises:
        ReplicaEdited: an entry of the log contradicts the entries before it.
        RedisUnreachable: Redis does not answer.
    """
    directory = Path(tempfile.mkdtemp(prefix="atoll-verify-", dir=store.replica.path.parent))
    try:
        rebuilt = Replica(directory / "rebuilt.db", 1)
        identity = Identity(store.settings.cloud, store.settings.log, store.group.writer.generation)
        if snapshot := store.log.snapshot():
            rebuilt.load(snapshot, identity)
            db = rebuilt.open()
        else:
            db = rebuilt.open()
            rebuilt.initialise(db, identity, Position(0, b""))
        store.catch_up()
        with store.group.alone() as position:
            _advance(store.log, store.group.writer.generation, rebuilt, db, position.n)
            return _differences(store.group.writer.db, db)
    finally:
        shutil.rmtree(directory)


def _advance(log: Log, generation: str, replica: Replica, db: apsw.Connection, until: int) -> None:
    while (at := replica.position(db)).n < until:
        entries = [found for found in log.entries(generation, at) if found.n <= until]
        if not entries:
            raise ReplicaEdited(f"{log}: it ends at {at.n}, and the replica holds {until} entries")
        replica.begin(db)
        replica.apply(db, entries)
        db.execute("COMMIT")


def _differences(one: apsw.Connection, two: apsw.Connection) -> list[str]:
    tables = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'atoll\\_store%' ESCAPE '\\' ORDER BY name"
    mine, theirs = dict(rows(one, tables)), dict(rows(two, tables))
    different = set(mine) ^ set(theirs)
    for name in set(mine) & set(theirs):
        query = f'SELECT * FROM "{name}"'
        if mine[name] != theirs[name] or sorted(map(repr, rows(one, query))) != sorted(map(repr, rows(two, query))):
            different.add(name)
    return sorted(different)
