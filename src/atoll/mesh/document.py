"""The replicated document: records that every site reads and writes, whether or not it can reach the others.

Each site writes into a stream of its own (`stream`), of which every other keeps a copy; a record is the fold over all streams
(`record`). Two documents that hold the same versions of all streams are equal. One thread uses a document.

A part of another's stream is taken in or refused as a whole, checked before anything of it is seen: its author is known and signed
it; the entries are well-formed, as the rule of their kind wants them, and none of them goes back behind what is already known.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from cryptography import x509

from atoll.mesh.clock import HybridClock
from atoll.mesh.parts import Part, digest_of, pack_parts, pack_state, unpack_parts, unpack_state
from atoll.mesh.record import (
    CREATED,
    PRESENT,
    Change,
    Fields,
    Record,
    Refused,
    Rule,
    Stamped,
    UnknownAuthor,
    entry_name,
    fold,
    read_entry,
    split_name,
    write_entry,
)
from atoll.mesh.signing import Signer, verify
from atoll.mesh.store import Store
from atoll.mesh.stream import Stream

__all__ = ["Behind", "Change", "Contradiction", "Document", "Record", "Refused", "Rule", "UnknownAuthor"]

_LOG = logging.getLogger(__name__)

Touched = frozenset[tuple[str, str]]
_T = TypeVar("_T")


class Behind(Refused):
    """Something that came before is lacking here.

    Attributes:
        author: whose stream it is.
        wholly: what is here of that stream is of no use: all of it is needed.
    """

    def __init__(self, author: str, *, wholly: bool) -> None:
        super().__init__(f"what comes before this part of {author}'s entries is not here")
        self.author = author
        self.wholly = wholly


class Contradiction(Refused):
    """An author takes back what it said: it lost its memory, and must be shown what is known of it (or it lies)."""

    def __init__(self, author: str, name: str) -> None:
        super().__init__(f"{author} has gone back behind what it said earlier about {name!r:.100}")
        self.author = author


class Document:
    """One site's copy of the document."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it stands on
        self,
        store: Store,
        author: str,
        signer: Signer,
        clock: HybridClock,
        certificate: Callable[[str], x509.Certificate | None],
        rules: Mapping[str, Rule] | None = None,
        former: Callable[[Mapping[str, Fields]], x509.Certificate | None] = lambda _entries: None,
    ) -> None:
        """Load what the store holds.

        Args:
            store: where it is kept.
            author: the site's own name.
            signer: the site's own.
            clock: gives the stamps.
            certificate: of a member; None if it is none. Asked for each part of another's stream, and for parts of the site's own.
            rules: what entries must satisfy, by kind.
            former: the certificate that this site had when it wrote what another site still has of it: a site that was lost and made anew
                under its name has another key. Everybody else hears of the old entries from the new site, signed with the new key.
        """
        self.author = author
        self._store = store
        self._signer = signer
        self._clock = clock
        self._certificate = certificate
        self._former = former
        self._rules = dict(rules or {})
        self._streams: dict[str, Stream] = {}
        self._holders: dict[str, dict[str, set[str]]] = {}
        self._ignored: dict[str, int] = {}
        self._on_change: list[Callable[[Touched], None]] = []
        self._on_update: list[Callable[[bytes], None]] = []
        for name in store.authors():
            self._load(name)

    # --- Reading

    def record(self, kind: str, key: str) -> Record | None:
        """A record, also one that was deleted (`Record.present` tells); None if nothing was ever written about it."""
        name = f"{kind}/{key}"
        holders = self._holders.get(kind, {}).get(key, ())
        return fold(kind, key, ((author, self._streams[author].entries[name]) for author in holders), self._ignored)

    def records(self, kind: str, *, deleted: bool = False) -> Iterator[Record]:
        """The records of a kind, in no order, as of now.

        Args:
            kind: which.
            deleted: also those that are not present.
        """
        for key in list(self._holders.get(kind, ())):
            record = self.record(kind, key)
            if record is not None and (deleted or record.present):
                yield record

    def kinds(self) -> frozenset[str]:
        """The kinds of which there are records, if only deleted ones."""
        return frozenset(self._holders)

    def on_change(self, callback: Callable[[Touched], None]) -> None:
        """Have `callback` called with the (kind, key) of records that may have changed, after each write and each merge."""
        self._on_change.append(callback)

    def on_update(self, callback: Callable[[bytes], None]) -> None:
        """Have `callback` called with what the other sites must be told, after each write."""
        self._on_update.append(callback)

    def size(self) -> dict[str, int]:
        """How large the document is: authors, entries, bytes."""
        streams = self._streams.values()
        return {
            "authors": len(streams),
            "entries": sum(len(stream.entries) for stream in streams),
            "bytes": sum(len(stream.part().update) for stream in streams),
        }

    # --- Writing

    def write(self, changes: Iterable[Change]) -> None:
        """Write fields of records: all of them or none, on disk when this returns.

        A record that comes to be present gets a field `created`, the stamp of that, unless the change gives one.

        Raises:
            ValueError, TypeError: a kind, a key or a value can't be written.
            Refused: the other sites would refuse it.
            sqlite3.Error: the disk does not take it.
        """
        stamp = self._clock.tick()
        entries: dict[str, Fields] = {}
        own = self._streams.get(self.author)
        for change in changes:
            name = entry_name(change.kind, change.key)
            entry = entries.get(name) or (dict(own.entries.get(name, {})) if own else {})
            for field, item in self._stamped(change, stamp).items():
                if field not in entry or item.stamp > entry[field].stamp or (item.stamp == stamp and item != entry[field]):
                    entry[field] = item
                    entries[name] = entry
        if entries:
            self._write(own or Stream(self.author), entries, stamp)

    def adopt(self, author: str, until: int) -> None:
        """Say again, as this site's own word with the stamps of then, what counts of another's word.

        Whoever has the key of a revoked site could overwrite its old entries, of which nothing would then count.

        Args:
            author: whose.
            until: the last stamp that counts.
        """
        stream = self._streams.get(author)
        changes = []
        for name in stream.entries if stream else ():
            kind, key = split_name(name)
            record = self.record(kind, key)
            for field, writer in record.authors.items() if record else ():
                if writer == author and record and record.stamps[field] <= until:
                    changes.append(Change(kind, key, {field: record.fields[field]}, record.stamps[field]))
        self.write(change for change in changes if self._may_write(change))

    def ignored(self, author: str, after_stamp: int) -> None:
        """A revoked author: nothing that it wrote after a stamp counts any more."""
        if self._ignored.get(author) == after_stamp:
            return
        self._ignored[author] = after_stamp
        stream = self._streams.get(author)
        entries = stream.entries.items() if stream else ()
        self._tell_touched(name for name, fields in entries if any(item.stamp > after_stamp for item in fields.values()))

    # --- What passes between sites

    def digest(self) -> bytes:
        """8 bytes that are equal if and only if two documents are."""
        return digest_of(self.state_vector())

    def state_vector(self) -> bytes:
        """The versions of all streams that are here."""
        return self.state_without(())

    def state_without(self, authors: Collection[str]) -> bytes:
        """The same, as if there were nothing of some authors: all of theirs is wanted."""
        streams = ((author, stream) for author, stream in self._streams.items() if author not in authors)
        return pack_state({author: stream.head.version for author, stream in streams if stream.head})

    def difference(self, state_vector: bytes) -> bytes:
        """What a document in that state lacks.

        Raises:
            Refused: it is no state vector.
        """
        return pack_parts(self.parts(state_vector))

    def parts(self, state_vector: bytes) -> list[Part]:
        """The same, by author.

        Raises:
            Refused: it is no state vector.
        """
        state = unpack_state(state_vector)
        parts = []
        for author, stream in self._streams.items():
            generation, writes, digest = state.get(author, (0, 0, b""))
            if stream.head and stream.head.version > (generation, writes, digest):
                follows = generation == stream.head.generation and writes < stream.head.writes
                parts.append(stream.part(writes if follows else 0))
        return parts

    def lacks(self, state_vector: bytes) -> bool:
        """Whether a document in that state has anything that is not here.

        Raises:
            Refused: it is no state vector.
        """
        return any(
            (stream := self._streams.get(author)) is None or stream.head is None or stream.head.version < version
            for author, version in unpack_state(state_vector).items()
        )

    def part(self, author: str) -> Part | None:
        """All that is here of an author."""
        stream = self._streams.get(author)
        return stream.part() if stream and stream.head else None

    def overtaken(self, part: Part) -> bool:
        """Whether there is a later version here than the one that a part leads to."""
        stream = self._streams.get(part.author)
        return stream is not None and stream.head is not None and part.head.version < stream.head.version

    def merge(self, update: bytes) -> None:
        """Take in what another site says. Each author's part is taken or refused on its own.

        Raises:
            Refused: a part was refused; the first of them. Of the refused parts nothing was changed.
            UnknownAuthor, Behind, Contradiction: the same, and something can be done about it.
            sqlite3.Error: the disk does not take it.
        """
        refused = []
        for part in unpack_parts(update):
            try:
                self.merge_part(part)
            except Refused as refusal:
                refused.append(refusal)
        if refused:
            raise refused[0]

    def merge_part(self, part: Part) -> bool:
        """Take in one author's part.

        Returns:
            Whether there was anything new.

        Raises:
            As merge.
        """
        current = self._streams.get(part.author)
        if part.author != self.author and current and current.head and part.head.version <= current.head.version:
            return False
        if part.author == self.author:
            return self._reclaim(part)
        self._check_head(part, self._certificate(part.author))
        follows = current is not None and current.head is not None and current.head.generation == part.head.generation
        if part.base and not (follows and current and part.base <= current.writes):
            raise Behind(part.author, wholly=False)
        try:
            stream = Stream(part.author) if part.base == 0 or current is None else current
            names = self._take(stream, part, current.entries if current else {})
        except Refused as refusal:
            if part.base == 0:
                raise
            self._load(part.author)
            # Another's copy differs from ours inside: whose fault it was does not matter if all of it can be had.
            raise (refusal if isinstance(refusal, Contradiction) else Behind(part.author, wholly=True)) from refusal
        self._keep(stream, part, names)
        self._tell_touched(names)
        return True

    # --- Inside

    def _stamped(self, change: Change, now: int) -> Fields:
        stamp = now if change.stamp is None else change.stamp
        fields = {field: Stamped(stamp, value) for field, value in change.fields.items()}
        if change.fields.get(PRESENT) is True and CREATED not in fields:
            record = self.record(change.kind, change.key)
            if record is None or not record.present:
                fields[CREATED] = Stamped(stamp, stamp)
        return fields

    def _may_write(self, change: Change) -> bool:
        try:
            self._check_rule(self.author, change.kind, change.key, {field: Stamped(0, value) for field, value in change.fields.items()})
        except Refused:
            return False
        return True

    def _check_rule(self, author: str, kind: str, key: str, fields: Fields) -> None:
        rule = self._rules.get(kind)
        if rule is not None:
            rule(author, key, {field: item.value for field, item in fields.items()})

    def _check(self, author: str, texts: Mapping[str, Any], latest: int) -> dict[str, Fields]:
        entries = {name: read_entry(name, text, latest) for name, text in texts.items()}
        for name, fields in entries.items():
            self._check_rule(author, *split_name(name), fields)
        return entries

    def _check_head(self, part: Part, *certificates: x509.Certificate | None) -> None:
        known = [certificate for certificate in certificates if certificate is not None]
        if not known:
            raise UnknownAuthor(part.author)
        signed = part.head.signed(part.author)
        if not any(verify(certificate, signed, part.head.signature) for certificate in known):
            raise Refused(f"what is said to be of {part.author} has not its signature")
        if not self._clock.believes(part.head.stamp):
            raise Refused(f"the clock of {part.author} is more than a day ahead of this site's: one of the two is wrong")

    def _write(self, stream: Stream, entries: dict[str, Fields], stamp: int) -> None:
        texts = {name: write_entry(fields) for name, fields in entries.items()}
        entries = self._check(self.author, texts, stamp)
        part = stream.write(texts, entries, generation=stamp, stamp=stamp, signer=self._signer)
        self._keep(stream, part, entries)
        for callback in self._on_update:
            _call(callback, pack_parts([part]))
        self._tell_touched(entries)

    def _take(self, stream: Stream, part: Part, known: dict[str, Fields]) -> list[str]:
        """Apply and check a part; the names of what it changed."""
        texts = stream.apply(part.update, part.head.writes)
        entries = self._check(part.author, texts, part.head.stamp)
        before = known if part.base == 0 else {name: known[name] for name in entries if name in known}
        stream.accept(texts, entries, part.head)
        for name, fields in before.items():
            if not _covers(entries.get(name, {}), fields):
                raise Contradiction(part.author, name)
        return [name for name, fields in entries.items() if fields != before.get(name)]

    def _reclaim(self, part: Part) -> bool:
        """Another site shows what it holds of our own stream: if there is anything in it that we have lost, begin a new stream of both."""
        if part.base:
            raise Behind(self.author, wholly=True)
        old = Stream(self.author)
        self._take(old, part, {})
        self._check_head(part, self._certificate(self.author), self._former(old.entries))
        own = self._streams.get(self.author)
        entries = dict(own.entries) if own else {}
        for name, fields in old.entries.items():
            entries[name] = _union(entries.get(name, {}), fields)
        if own and entries == own.entries:
            return False
        _LOG.warning("this site had lost a part of what it wrote: %s has it back from another site", self.author)
        self._clock.observe(part.head.stamp)
        self._write(Stream(self.author), entries, self._clock.tick())
        return True

    def _keep(self, stream: Stream, part: Part, names: Iterable[str]) -> None:
        """A stream was changed by a part: on disk first, then for readers."""
        try:
            # What is another's comes again if it is lost; waiting for the disk would hold up the event loop for each of many small parts.
            self._store.append(part, durable=stream.author == self.author)
        except sqlite3.Error:
            self._load(stream.author)
            raise
        self._show(stream, names)
        if self._store.grown(stream.author):
            try:
                self._store.append(stream.part())
            except sqlite3.Error:
                _LOG.warning("what is kept of %s could not be made smaller", stream.author, exc_info=True)

    def _show(self, stream: Stream, names: Iterable[str]) -> None:
        self._streams[stream.author] = stream
        for name in names:
            kind, key = split_name(name)
            self._holders.setdefault(kind, {}).setdefault(key, set()).add(stream.author)
        if stream.head:
            self._clock.observe(stream.head.stamp)

    def _load(self, author: str) -> None:
        """Make a stream again from what the store has of it."""
        if (before := self._streams.pop(author, None)) is not None:
            for name in before.entries:
                kind, key = split_name(name)
                self._holders[kind][key].discard(author)
        stream = Stream(author)
        try:
            for part in self._store.parts(author):
                if part.base == 0:
                    stream = Stream(author)
                texts = stream.apply(part.update, part.head.writes)
                stream.accept(texts, {name: read_entry(name, text, part.head.stamp) for name, text in texts.items()}, part.head)
        except Refused as refusal:
            _LOG.error("what is kept of %s is damaged (%s): it has to come from the other sites", author, refusal)
            return
        if stream.head:
            self._clock.restore(stream.head.stamp)
            self._show(stream, stream.entries)

    def _tell_touched(self, names: Iterable[str]) -> None:
        touched = frozenset(split_name(name) for name in names)
        for callback in self._on_change if touched else ():
            _call(callback, touched)


def _call(callback: Callable[[_T], None], value: _T) -> None:
    try:
        callback(value)
    except Exception:
        _LOG.exception("what was to follow a change of the document failed")


def _covers(new: Fields, old: Fields) -> bool:
    """Whether nothing in `old` is missing in `new` or was taken back."""
    return all(field in new and (new[field] == item or new[field].stamp > item.stamp) for field, item in old.items())


def _union(one: Fields, other: Fields) -> Fields:
    return one | {field: item for field, item in other.items() if field not in one or item.stamp >= one[field].stamp}
