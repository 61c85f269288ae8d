"""The replicated document: records that every site reads and writes, whether or not it can reach the others.

Each site writes into a stream of its own (`stream`), of which every other keeps a copy; a record is the fold over all streams
(`record`). Two documents that hold the same versions of all streams are equal. One thread uses a document.

What a site deletes becomes a tombstone, and in the end is left out (`graves`). A site that leaves something out begins a new *generation*
of its stream, which names those that it continues; so a reader can tell what was left out from what was forgotten.

A part of another's stream is taken in or refused as a whole, checked before anything of it is seen: its author is known and signed
it; the entries are well-formed, as the rule of their kind wants them, and none of them goes back behind what is already known.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from cryptography import x509

from atoll.mesh import graves
from atoll.mesh.clock import HybridClock
from atoll.mesh.holdings import Holdings
from atoll.mesh.parts import Part, digest_of, pack_parts, pack_state, unpack_parts, unpack_state
from atoll.mesh.record import (
    CREATED,
    PRESENT,
    Behind,
    Change,
    Contradiction,
    Fields,
    Full,
    Record,
    Refused,
    Rule,
    Stamped,
    UnknownAuthor,
    covers,
    entry_name,
    read_entry,
    settle,
    split_name,
    unite,
    write_entry,
)
from atoll.mesh.signing import Signer, verify
from atoll.mesh.store import Store
from atoll.mesh.stream import ENTRY_WEIGHT, MAX_WEIGHT, Stream

__all__ = ["Behind", "Change", "Contradiction", "Document", "Full", "Record", "Refused", "Rule", "UnknownAuthor"]

_LOG = logging.getLogger(__name__)

_ADOPT_CHUNK = 1000
"""Records of a revoked site that are written at a time."""

Touched = frozenset[tuple[str, str]]
_T = TypeVar("_T")


class Document:
    """One site's copy of the document.

    Attributes:
        judge: the record, by those whose word counts for it, that decides whether this site's entry about it may be reduced.
    """

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
        self._rules = {**(rules or {}), graves.STREAM: graves.check_stream}
        self._graves = graves.Graves(author)
        self._holdings = Holdings()
        self._streams = self._holdings.streams
        self._on_change: list[Callable[[Touched], None]] = []
        self._on_update: list[Callable[[bytes], None]] = []
        for name in store.authors():
            self._load(name)
        self.judge: Callable[[str, str], Record | None] = self.record
        self._graves.note(self._own_entries(), self._own_entries(), self.written)

    def record(self, kind: str, key: str) -> Record | None:
        """A record, also one that was deleted (`Record.present` tells); None if nothing was ever written about it."""
        return self._holdings.record(kind, key)

    def entries(self, kind: str, key: str) -> dict[str, Fields]:
        """What each author has written about a record, but for what is ignored."""
        return self._holdings.heard(kind, key)

    def records(self, kind: str, *, deleted: bool = False) -> Iterator[Record]:
        """The records of a kind, in no order, as of now.

        Args:
            kind: which.
            deleted: also those that are not present.
        """
        for key in self._holdings.keys(kind):
            record = self.record(kind, key)
            if record is not None and (deleted or record.present):
                yield record

    def kinds(self) -> frozenset[str]:
        """The kinds of which there are records, if only deleted ones."""
        return self._holdings.kinds()

    def on_change(self, callback: Callable[[Touched], None]) -> None:
        """Have `callback` called with the (kind, key) of records that may have changed, after each write and each merge."""
        self._on_change.append(callback)

    def on_update(self, callback: Callable[[bytes], None]) -> None:
        """Have `callback` called with what the other sites must be told, after each write."""
        self._on_update.append(callback)

    def size(self) -> dict[str, int]:
        """How large the document is: authors, entries, bytes, and how full the fullest stream is, in percent."""
        return self._holdings.size()

    @property
    def fullness(self) -> float:
        """How much of what it may weigh this site's own stream weighs, 0 to 1."""
        return self._streams[self.author].weight / MAX_WEIGHT if self.author in self._streams else 0.0

    @property
    def written(self) -> int:
        """The stamp of this site's last write; 0 if there is none."""
        return head.stamp if self.author in self._streams and (head := self._streams[self.author].head) else 0

    def write(self, changes: Iterable[Change]) -> None:
        """Write fields of records: all of them or none, on disk when this returns.

        A record that comes to be present gets a field `created`, the stamp of that, unless the change gives one.

        Raises:
            ValueError, TypeError: a kind, a key or a value can't be written.
            Refused: the other sites would refuse it.
            Full: this site's stream has no room for it.
            sqlite3.Error: the disk does not take it.
        """
        if (own := self._streams.get(self.author)) and graves.is_worth_while(own.waste, own.weight):
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
        """Reduce this site's entries about deleted records, and leave out those that nobody needs any more (`graves`).

        Args:
            acknowledged: a value of `written`: every member has had what this site had written by then.

        Raises:
            sqlite3.Error: the disk does not take it.
        """
        own = self._streams.get(self.author)
        if own is None:
            return
        now = self._clock.tick()
        if buried := self._graves.to_bury(own.entries, lambda name: self.judge(*split_name(name)), now):
            self._write(own, buried, now)
        if own.waste + ENTRY_WEIGHT * self._graves.might_end() > graves.MIN_WASTE:
            ended = self._graves.ended(own.entries, lambda name: self._holdings.others(name, self.author), acknowledged, now)
            if graves.is_worth_while(own.waste + ENTRY_WEIGHT * len(ended), own.weight):
                self._renew(own, ended)

    def adopt(self, author: str, until: int) -> None:
        """Say again, as this site's own word with the stamps of then, what counts of another's word.

        Whoever has the key of a revoked site could overwrite its old entries, of which nothing would then count.

        Args:
            author: whose.
            until: the last stamp that counts.

        Raises:
            Full: this site's stream has no room for all of it.
            sqlite3.Error: the disk does not take it.
        """
        changes = []
        for name in self._holdings.entries(author):
            kind, key = split_name(name)
            record = self.record(kind, key)
            for field, writer in record.authors.items() if record else ():
                if writer == author and record and record.stamps[field] <= until:
                    changes.append(Change(kind, key, {field: record.fields[field]}, record.stamps[field]))
        allowed = [change for change in changes if self._may_write(change)]
        for start in range(0, len(allowed), _ADOPT_CHUNK):
            self.write(allowed[start : start + _ADOPT_CHUNK])

    def ignored(self, author: str, after_stamp: int) -> None:
        """A revoked author: nothing that it wrote after a stamp counts any more."""
        if self._holdings.ignored.get(author) == after_stamp:
            return
        self._holdings.ignored[author] = after_stamp
        stream = self._streams.get(author)
        entries = stream.entries.items() if stream else ()
        self._tell_touched(name for name, fields in entries if any(item.stamp > after_stamp for item in fields.values()))

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

    def parts(self, state_vector: bytes) -> Iterator[Part]:
        """The same, by author, the smallest streams first. Each part is made only when it is taken.

        Raises:
            Refused: it is no state vector.
        """
        state = unpack_state(state_vector)
        for author, stream in sorted(self._streams.items(), key=lambda each: each[1].weight):
            generation, writes, digest = state.get(author, (0, 0, b""))
            if stream.head and stream.head.version > (generation, writes, digest):
                follows = generation == stream.head.generation and writes < stream.head.writes
                yield stream.part(writes if follows else 0)

    def lacks(self, state_vector: bytes) -> bool:
        """Whether a document in that state has anything that is not here.

        Raises:
            Refused: it is no state vector.
        """
        return any(
            (stream := self._streams.get(author)) is None or stream.head is None or stream.head.version < version
            for author, version in unpack_state(state_vector).items()
        )

    def part(self, author: str, base: int = 0) -> Part | None:
        """What is here of an author, after so many writes; `None` if there is nothing."""
        stream = self._streams.get(author)
        return stream.part(base) if stream and stream.head and 0 <= base < stream.writes else None

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
            names = self._take(stream, part, current)
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

    def _own_entries(self) -> Mapping[str, Fields]:
        return self._holdings.entries(self.author)

    def _renew(self, own: Stream, without: Collection[str]) -> None:
        """Begin a new generation of this site's stream, with nothing of what was overwritten, and without some entries."""
        assert own.head is not None
        stamp = self._clock.tick()
        entries = {name: settle(fields) for name, fields in own.entries.items() if name not in without}
        chain = [*graves.ancestors(self.author, own.entries), (own.head.generation, own.writes)][-graves.MAX_ANCESTORS :]
        entries[entry_name(graves.STREAM, self.author)] = {graves.ANCESTORS: Stamped(stamp, [list(pair) for pair in chain])}
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
            raise Refused(f"what is said to be of {part.author} has not its signature")
        if not self._clock.believes(part.head.stamp):
            raise Refused(f"the clock of {part.author} is more than a day ahead of this site's: one of the two is wrong")

    def _write(self, stream: Stream, entries: dict[str, Fields], stamp: int) -> None:
        texts = {name: write_entry(fields) for name, fields in entries.items()}
        entries = self._check(self.author, texts, stamp)
        if (weight := stream.weight_with(texts, stream.writes + len(texts))) > MAX_WEIGHT and weight > stream.weight:
            raise Full(self.author)
        gone = () if stream is self._streams.get(self.author) else self._own_entries().keys() - entries.keys()
        part = stream.write(texts, entries, generation=stamp, stamp=stamp, signer=self._signer)
        self._keep(stream, part, entries)
        for callback in self._on_update:
            _call(callback, pack_parts([part]))
        self._tell_touched([*entries, *gone])

    def _take(self, stream: Stream, part: Part, current: Stream | None) -> list[str]:
        """Apply and check a part; the names of what it changed.

        Args:
            stream: `current`, or an empty one if the part is all.
            part: signed by its author, as far as the head says.
            current: what is here of the author.
        """
        texts = stream.apply(part.update, part.head.writes)
        entries = self._check(part.author, texts, part.head.stamp)
        if stream.weight_with(texts, part.head.writes) > MAX_WEIGHT:
            raise Full(part.author)
        known, before_head = (current.entries, current.head) if current else ({}, None)
        before = dict(known) if part.base == 0 else {name: known[name] for name in entries if name in known}
        stream.accept(texts, entries, part.head)
        if not graves.continues(part.author, stream.entries, before_head, part.head.generation):
            for name, fields in before.items():
                if not covers(entries.get(name, {}), fields):
                    raise Contradiction(part.author, name)
        gone = before.keys() - stream.entries.keys()
        return [*gone, *(name for name, fields in entries.items() if fields != before.get(name))]

    def _reclaim(self, part: Part) -> bool:
        """Another site shows what it holds of our own stream: if there is anything in it that we have lost, begin a new stream of both."""
        if part.base:
            raise Behind(self.author, wholly=True)
        old, own = Stream(self.author), self._streams.get(self.author)
        self._take(old, part, None)
        self._check_head(part, self._certificate(self.author), self._former(old.entries))
        if graves.continues(self.author, self._own_entries(), old.head):
            return False  # this site has left out what is not here
        known = {name: settle(fields) for name, fields in self._own_entries().items()}
        entries = dict(known)
        if own and own.head and own.head.generation in {generation for generation, _ in graves.ancestors(self.author, old.entries)}:
            # This site is back from an old copy of itself: what it had left out since then stays out.
            entries = {name: newer for name, fields in known.items() if (newer := graves.later(fields, part.head.generation))}
        for name, fields in old.entries.items():
            entries[name] = unite(entries.get(name, {}), fields)
        if own and entries == known:
            return False
        _LOG.warning("this site had lost a part of what it wrote: it has it back from another site")
        self._clock.observe(part.head.stamp)
        stamp = self._clock.tick()
        if (about := entry_name(graves.STREAM, self.author)) in entries:
            entries[about] = graves.merged(self.author, known, old.entries, stamp)
        self._write(Stream(self.author), entries, stamp)
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
        self._holdings.put(stream, names)
        if stream.head:
            self._clock.observe(stream.head.stamp)

    def _load(self, author: str) -> None:
        """Make a stream again from what the store has of it."""
        self._holdings.drop(author)
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
        names = list(names)
        self._graves.note(names, self._own_entries(), self.written)
        touched = frozenset(split_name(name) for name in names)
        for callback in self._on_change if touched else ():
            _call(callback, touched)


def _call(callback: Callable[[_T], None], value: _T) -> None:
    try:
        callback(value)
    except Exception:
        _LOG.exception("what was to follow a change of the document failed")
