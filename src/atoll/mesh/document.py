"""The replicated document: records that every site reads and writes, whether or not it reaches the others.

Each site writes into a stream of its own (`stream`), of which every other site keeps a copy. A record is the fold over all streams
(`record`). Two documents that hold the same versions of all streams are equal. One thread uses a document.

A deletion leaves a tombstone, which its site drops in the end (`tombstones`). To drop entries, a site begins a new *generation* of its
stream, which names the generations that it continues. So a reader can tell whether an entry was dropped on purpose or lost.

A part of another site's stream is accepted or refused as a whole, and is checked before any of it becomes visible: its author is known and
has signed it; each entry is well-formed and satisfies the rule of its kind; and none of them reverts to an older state.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from cryptography import x509

from atoll.mesh import tombstones
from atoll.mesh.clock import HybridClock
from atoll.mesh.entry import CREATED, PRESENT, Fields, Stamped, covers, entry_name, read_entry, settle, split_name, unite, write_entry
from atoll.mesh.parts import Part, pack_parts, unpack_parts, unpack_state
from atoll.mesh.record import Change, Record, Rule
from atoll.mesh.refusals import Behind, Contradiction, Full, Refused, UnknownAuthor
from atoll.mesh.signing import Signer, verify
from atoll.mesh.store import Store
from atoll.mesh.stream import ENTRY_WEIGHT, MAX_WEIGHT, Stream
from atoll.mesh.stream_set import StreamSet

__all__ = ["Behind", "Change", "Contradiction", "Document", "Full", "Record", "Refused", "Rule", "UnknownAuthor"]

_LOG = logging.getLogger(__name__)

_ADOPT_CHUNK = 1000
"""The number of a revoked site's records that are written at a time."""

Touched = frozenset[tuple[str, str]]
_T = TypeVar("_T")


class Document:
    """One site's copy of the document.

    Attributes:
        stream_set: the streams of all authors.
        judge: returns the record as the sites that are trusted for it see it, which decides whether this site's entry may be reduced.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators
        self,
        store: Store,
        author: str,
        signer: Signer,
        clock: HybridClock,
        certificate: Callable[[str], x509.Certificate | None],
        rules: Mapping[str, Rule] | None = None,
        former: Callable[[Mapping[str, Fields]], x509.Certificate | None] = lambda _entries: None,
    ) -> None:
        """Load the document from the store.

        Args:
            store: the document on disk.
            author: the site's own name.
            signer: the site's own key.
            clock: issues the stamps.
            certificate: returns the certificate of a member, or `None`. Called for each part of any author's stream.
            rules: the rules for entries, by kind.
            former: returns the certificate that this site had when it wrote entries of which another site still has a copy. A site that was
                lost and created anew under its name has another key. The other sites get the old entries from the new site, signed with the
                new key.
        """
        self.author = author
        self._store = store
        self._signer = signer
        self._clock = clock
        self._certificate = certificate
        self._former = former
        self._rules = {**(rules or {}), tombstones.STREAM: tombstones.check_stream}
        self._tombstones = tombstones.Tombstones(author)
        self.stream_set = StreamSet()
        self._streams = self.stream_set.streams
        self._on_change: list[Callable[[Touched], None]] = []
        self._on_update: list[Callable[[Part], None]] = []
        for name in store.authors():
            self._load(name)
        self.judge: Callable[[str, str], Record | None] = self.record
        self._tombstones.note(self._own_entries(), self._own_entries(), self.written)

    def record(self, kind: str, key: str) -> Record | None:
        """Return a record, even if it is deleted (`Record.present`); `None` if no site has an entry about it."""
        return self.stream_set.record(kind, key)

    def entries(self, kind: str, key: str) -> dict[str, Fields]:
        """Return the entries about a record by author, without those that are ignored."""
        return self.stream_set.entries_about(kind, key)

    def records(self, kind: str, *, deleted: bool = False) -> Iterator[Record]:
        """Yield the present records of a kind, in no order.

        Args:
            kind: the kind.
            deleted: yield deleted records too.
        """
        for key in self.stream_set.keys(kind):
            record = self.record(kind, key)
            if record is not None and (deleted or record.present):
                yield record

    def kinds(self) -> frozenset[str]:
        """Return the kinds of all records, deleted ones included."""
        return self.stream_set.kinds()

    def on_change(self, callback: Callable[[Touched], None]) -> None:
        """Call `callback` after each write and merge with the (kind, key) of the records that may have changed."""
        self._on_change.append(callback)

    def on_update(self, callback: Callable[[Part], None]) -> None:
        """Call `callback` after each write with the part that the other sites need."""
        self._on_update.append(callback)

    def size(self) -> dict[str, int]:
        """Return the size of the document: authors, entries, bytes, and the fullness of the fullest stream in percent."""
        return self.stream_set.size()

    @property
    def fullness(self) -> float:
        """The weight of this site's own stream as a fraction of the greatest weight, 0 to 1."""
        return self._streams[self.author].weight / MAX_WEIGHT if self.author in self._streams else 0.0

    @property
    def written(self) -> int:
        """The stamp of this site's last write; 0 if there is none."""
        return head.stamp if self.author in self._streams and (head := self._streams[self.author].head) else 0

    def write(self, changes: Iterable[Change]) -> None:
        """Write fields of records: all of them or none, on disk when this returns.

        A record that becomes present gets a field `created` with the stamp of the change, unless the change contains that field.

        Raises:
            ValueError, TypeError: a kind, a key or a value can't be written.
            Refused: the other sites would refuse the change.
            Full: this site's stream has no room for it.
            sqlite3.Error: the write to the disk failed.
        """
        if (own := self._streams.get(self.author)) and tombstones.is_worthwhile(own.waste, own.weight):
            self._renew(own, ())
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
            entries = {name: settle(entry) for name, entry in entries.items()}
            self._write(own or Stream(self.author), entries, stamp)

    def tidy(self, acknowledged: int) -> None:
        """Reduce this site's entries about deleted records to tombstones, and drop tombstones that are no longer needed (`tombstones`).

        Args:
            acknowledged: a stamp (a former value of `written`) up to which every member has this site's writes.

        Raises:
            sqlite3.Error: the write to the disk failed.
        """
        own = self._streams.get(self.author)
        if own is None:
            return
        now = self._clock.tick()
        if buried := self._tombstones.to_reduce(own.entries, lambda name: self.judge(*split_name(name)), now):
            self._write(own, buried, now)
        if own.waste + ENTRY_WEIGHT * self._tombstones.count() > tombstones.MIN_WASTE:
            ended = self._tombstones.droppable(own.entries, lambda name: self.stream_set.others(name, self.author), acknowledged, now)
            if tombstones.is_worthwhile(own.waste + ENTRY_WEIGHT * len(ended), own.weight):
                self._renew(own, ended)

    def adopt(self, author: str, until: int) -> None:
        """Re-publish another site's accepted entries in this site's stream, with their original stamps.

        Otherwise a thief of the site's key could overwrite these entries with later entries. Those are ignored, so the values would be
        lost.

        Args:
            author: the other site.
            until: the stamp after which the site's entries are ignored.

        Raises:
            Full: this site's stream has no room for all of them.
            sqlite3.Error: the write to the disk failed.
        """
        changes = []
        for name in self.stream_set.entries(author):
            kind, key = split_name(name)
            record = self.record(kind, key)
            for field, writer in record.authors.items() if record else ():
                if writer == author and record and record.stamps[field] <= until:
                    changes.append(Change(kind, key, {field: record.fields[field]}, record.stamps[field]))
        allowed = [change for change in changes if self._may_write(change)]
        for start in range(0, len(allowed), _ADOPT_CHUNK):
            self.write(allowed[start : start + _ADOPT_CHUNK])

    def ignored(self, author: str, after_stamp: int) -> None:
        """Ignore the entries that a revoked author wrote after a stamp."""
        if self.stream_set.ignored.get(author) == after_stamp:
            return
        self.stream_set.ignored[author] = after_stamp
        stream = self._streams.get(author)
        entries = stream.entries.items() if stream else ()
        self._tell_touched(name for name, fields in entries if any(item.stamp > after_stamp for item in fields.values()))

    def digest(self) -> bytes:
        """Return 8 bytes that two documents share if, and (but for collisions) only if, they are equal."""
        return self.stream_set.digest()

    def state_vector(self) -> bytes:
        """Return the versions of all streams, packed."""
        return self.stream_set.state()

    def state_without(self, authors: Collection[str]) -> bytes:
        """Return the versions of all streams, packed, without the streams of some authors, so that a peer sends these whole."""
        return self.stream_set.state_without(authors)

    def difference(self, state_vector: bytes) -> bytes:
        """Return the parts that a document with a state vector lacks, packed.

        Raises:
            Refused: the bytes are not a state vector.
        """
        return pack_parts(self.parts(state_vector))

    def parts(self, state_vector: bytes) -> Iterator[Part]:
        """Yield the parts that a document with a state vector lacks, the smallest streams first. Each is created when the caller takes it.

        Raises:
            Refused: the bytes are not a state vector.
        """
        state = unpack_state(state_vector)
        for author, stream in sorted(self._streams.items(), key=lambda each: each[1].weight):
            generation, writes, digest = state.get(author, (0, 0, b""))
            if stream.head and stream.head.version > (generation, writes, digest):
                follows = generation == stream.head.generation and writes < stream.head.writes
                yield stream.part(writes if follows else 0)

    def lacks(self, state_vector: bytes) -> bool:
        """Return whether a document with a state vector has entries that this document lacks.

        Raises:
            Refused: the bytes are not a state vector.
        """
        return any(
            (stream := self._streams.get(author)) is None or stream.head is None or stream.head.version < version
            for author, version in unpack_state(state_vector).items()
        )

    def part(self, author: str, base: int = 0) -> Part | None:
        """Return the entries of an author after `base` writes; `None` if there are none."""
        stream = self._streams.get(author)
        return stream.part(base) if stream and stream.head and 0 <= base < stream.writes else None

    def overtaken(self, part: Part) -> bool:
        """Return whether this document already has a later version of the author's stream than the one that a part would produce."""
        stream = self._streams.get(part.author)
        return stream is not None and stream.head is not None and part.head.version < stream.head.version

    def merge(self, update: bytes) -> None:
        """Merge another site's parts. Each author's part is accepted or refused on its own.

        Raises:
            Refused: the first refusal of a part. A refused part changed nothing.
            UnknownAuthor, Behind, Contradiction: a part was refused for a reason that can be remedied.
            sqlite3.Error: the write to the disk failed.
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
        """Merge one author's part.

        Returns:
            Whether the part contained new entries.

        Raises:
            Refused, sqlite3.Error: as for `merge`.
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
            names = self._take(stream, part, current)
        except Refused as refusal:
            if part.base == 0:
                raise
            self._load(part.author)
            # The sender's copy of earlier entries differs from this one. Whichever copy is wrong, the whole stream resolves the difference.
            raise (refusal if isinstance(refusal, Contradiction) else Behind(part.author, wholly=True)) from refusal
        self._keep(stream, part, names)
        self._tell_touched(names)
        return True

    # --- Internal

    def _own_entries(self) -> Mapping[str, Fields]:
        return self.stream_set.entries(self.author)

    def _renew(self, own: Stream, without: Collection[str]) -> None:
        """Begin a new generation of this site's stream, without overwritten values and without the named entries."""
        assert own.head is not None
        stamp = self._clock.tick()
        entries = {name: settle(fields) for name, fields in own.entries.items() if name not in without}
        chain = [*tombstones.ancestors(self.author, own.entries), (own.head.generation, own.writes)][-tombstones.MAX_ANCESTORS :]
        entries[entry_name(tombstones.STREAM, self.author)] = {tombstones.ANCESTORS: Stamped(stamp, [list(pair) for pair in chain])}
        _LOG.info("a new generation of this site's stream: %d entries, %d left out", len(entries), len(without))
        self._write(Stream(self.author), entries, stamp)

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
            raise Refused(f"a part of {part.author}'s stream does not have its signature")
        if not self._clock.accepts(part.head.stamp):
            raise Refused(f"the clock of {part.author} is more than a day ahead of this site's: set the wrong one of the two")

    def _write(self, stream: Stream, entries: dict[str, Fields], stamp: int) -> None:
        texts = {name: write_entry(fields) for name, fields in entries.items()}
        entries = self._check(self.author, texts, stamp)
        if (weight := stream.weight_with(texts, stream.writes + len(texts))) > MAX_WEIGHT and weight > stream.weight:
            raise Full(self.author)
        gone = () if stream is self._streams.get(self.author) else self._own_entries().keys() - entries.keys()
        part = stream.write(texts, entries, generation=stamp, stamp=stamp, signer=self._signer)
        self._keep(stream, part, entries)
        for callback in self._on_update:
            _call(callback, part)
        self._tell_touched([*entries, *gone])

    def _take(self, stream: Stream, part: Part, current: Stream | None) -> list[str]:
        """Apply and check a part; return the names of the changed entries.

        Args:
            stream: `current`, or an empty stream if the part is the whole one.
            part: a part whose head the author has signed.
            current: the present stream of the author.
        """
        texts = stream.apply(part.update, part.head.writes)
        entries = self._check(part.author, texts, part.head.stamp)
        if stream.weight_with(texts, part.head.writes) > MAX_WEIGHT:
            raise Full(part.author)
        known, before_head = (current.entries, current.head) if current else ({}, None)
        before = dict(known) if part.base == 0 else {name: known[name] for name in entries if name in known}
        stream.accept(texts, entries, part.head)
        if not tombstones.continues(part.author, stream.entries, before_head, part.head.generation):
            for name, fields in before.items():
                if not covers(entries.get(name, {}), fields):
                    raise Contradiction(part.author, name)
        gone = before.keys() - stream.entries.keys()
        return [*gone, *(name for name, fields in entries.items() if fields != before.get(name))]

    def _reclaim(self, part: Part) -> bool:
        """Compare another site's copy of this site's stream; if entries were lost here, begin a new stream with the entries of both."""
        if part.base:
            raise Behind(self.author, wholly=True)
        old, own = Stream(self.author), self._streams.get(self.author)
        self._take(old, part, None)
        self._check_head(part, self._certificate(self.author), self._former(old.entries))
        if tombstones.continues(self.author, self._own_entries(), old.head):
            return False  # this site has dropped the missing entries on purpose
        known = {name: settle(fields) for name, fields in self._own_entries().items()}
        entries = dict(known)
        if own and own.head and own.head.generation in {generation for generation, _ in tombstones.ancestors(self.author, old.entries)}:
            # This site was restored from an old copy of its files: entries that it had dropped since then stay dropped.
            entries = {name: newer for name, fields in known.items() if (newer := tombstones.fields_after(fields, part.head.generation))}
        for name, fields in old.entries.items():
            entries[name] = unite(entries.get(name, {}), fields)
        if own and entries == known:
            return False
        _LOG.warning("this site had lost some of its own entries, and has recovered them from another site")
        self._clock.observe(part.head.stamp)
        stamp = self._clock.tick()
        if (about := entry_name(tombstones.STREAM, self.author)) in entries:
            entries[about] = tombstones.merged_ancestors(self.author, known, old.entries, stamp)
        self._write(Stream(self.author), entries, stamp)
        return True

    def _keep(self, stream: Stream, part: Part, names: Iterable[str]) -> None:
        """Store a changed stream, then make it visible to readers."""
        try:
            # Other sites' entries are sent again if they are lost; waiting for the disk would block the event loop for each of many small
            # parts.
            self._store.append(part, durable=stream.author == self.author)
        except sqlite3.Error:
            self._load(stream.author)
            raise
        self._show(stream, names)
        if self._store.grown(stream.author):
            try:
                self._store.append(stream.part())
            except sqlite3.Error:
                _LOG.warning("the stored stream of %s could not be compacted", stream.author, exc_info=True)

    def _show(self, stream: Stream, names: Iterable[str]) -> None:
        self.stream_set.put(stream, names)
        if stream.head:
            self._clock.observe(stream.head.stamp)

    def _load(self, author: str) -> None:
        """Read a stream from the store."""
        self.stream_set.drop(author)
        stream = Stream(author)
        try:
            for part in self._store.parts(author):
                if part.base == 0:
                    stream = Stream(author)
                texts = stream.apply(part.update, part.head.writes)
                stream.accept(texts, {name: read_entry(name, text, part.head.stamp) for name, text in texts.items()}, part.head)
        except Refused as refusal:
            _LOG.error("the stored stream of %s is damaged (%s): it has to come from the other sites", author, refusal)
            return
        if stream.head:
            self._clock.restore(stream.head.stamp)
            self._show(stream, stream.entries)

    def _tell_touched(self, names: Iterable[str]) -> None:
        names = list(names)
        self._tombstones.note(names, self._own_entries(), self.written)
        touched = frozenset(split_name(name) for name in names)
        for callback in self._on_change if touched else ():
            _call(callback, touched)


def _call(callback: Callable[[_T], None], value: _T) -> None:
    try:
        callback(value)
    except Exception:
        _LOG.exception("a callback for a change of the document failed")
