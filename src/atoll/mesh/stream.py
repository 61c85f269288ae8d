"""All that one site has written: a map of entries (a Yjs document, by pycrdt), and what the site signs about it, the head.

Only its author writes into it, so that there is never a conflict inside; Yjs tells what a reader lacks, given how far it has read. The
structure of a Yjs update is nobody's signed word: whoever passes it on could leave out or alter. So the author signs a digest of all its
entries, with the number of writes that led there. What does not give exactly the signed digest is refused, and one signature covers any
number of entries.

A stream has a *weight*, an upper bound of its size in memory and on the wire. Writer and readers hold it to the same bound, so that what an
author can write its readers take, and what was kept on disk can be read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pycrdt import Doc, Map

from atoll.mesh.parts import Head, Part
from atoll.mesh.record import Fields, Refused
from atoll.mesh.signing import Signer

_ROOT = "entries"
_CLIENT = 1
_BUCKETS = 256

MAX_WEIGHT = 60 * 1024 * 1024
"""Bytes that a stream may weigh. A whole stream is then smaller than `MAX_UPDATE_BYTES`, the bound of what is read."""

ENTRY_WEIGHT = 256
"""Bytes that an entry weighs beside its name and its text: what a reader keeps of it in memory, and Yjs's structure."""

OVERWRITTEN_WEIGHT = 32
"""Bytes that a value which was overwritten weighs: Yjs keeps its place in the history."""


class Stream:
    """The entries of one author."""

    def __init__(self, author: str) -> None:
        """A stream without any entry.

        Args:
            author: who writes it.
        """
        self.author = author
        self.head: Head | None = None
        self.entries: dict[str, Fields] = {}
        self._sizes: dict[str, int] = {}
        self._size = 0
        self._digest = _Digest()
        self._doc: Doc[Any] = Doc(client_id=_CLIENT)
        self._map: Map[str] = self._doc.get(_ROOT, type=Map)

    @property
    def writes(self) -> int:
        """How many writes it has seen."""
        return self.head.writes if self.head else 0

    @property
    def weight(self) -> int:
        """Bytes that it weighs (`MAX_WEIGHT`)."""
        return self._weight(self._size, len(self._sizes), self.writes)

    @property
    def waste(self) -> int:
        """Bytes of its weight that a new generation with the same entries would not have."""
        return OVERWRITTEN_WEIGHT * (self.writes - len(self._sizes))

    def weight_with(self, texts: Mapping[str, str], writes: int) -> int:
        """Bytes that it would weigh with further entries, and so many writes."""
        size, number = self._size, len(self._sizes)
        for name, text in texts.items():
            known = self._sizes.get(name)
            size += _size_of(name, text) - (known or 0)
            number += known is None
        return self._weight(size, number, writes)

    @staticmethod
    def _weight(size: int, number: int, writes: int) -> int:
        return size + ENTRY_WEIGHT * number + OVERWRITTEN_WEIGHT * (writes - number)

    def _count(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            size = _size_of(name, text)
            self._size += size - self._sizes.get(name, 0)
            self._sizes[name] = size

    def part(self, base: int = 0) -> Part:
        """What a reader lacks that has reached `base`. There must be a head."""
        assert self.head is not None
        return Part(self.author, base, self._doc.get_update(_state(base)), self.head)

    def write(self, texts: Mapping[str, str], entries: Mapping[str, Fields], *, generation: int, stamp: int, signer: Signer) -> Part:
        """Write entries of one's own.

        Args:
            texts: the entries as they are kept.
            entries: the same, read.
            generation: of the stream, if this is the first write.
            stamp: not less than any in the entries.
            signer: the author's.

        Returns:
            What readers are to be told.
        """
        base = self.writes
        updates: list[bytes] = []
        subscription = self._doc.observe(lambda event: updates.append(event.update))
        with self._doc.transaction():
            for name, text in texts.items():
                self._map[name] = text
        self._doc.unobserve(subscription)
        self._digest.add(texts)
        self._count(texts)
        head = Head(self.head.generation if self.head else generation, base + len(texts), stamp, self._digest.value())
        self.entries.update(entries)
        self.head = head._replace(signature=signer.sign(head.signed(self.author)))
        return Part(self.author, base, updates[0], self.head)

    def apply(self, update: bytes, writes: int) -> dict[str, Any]:
        """Apply an update that may be hostile. After a refusal, or if the caller does not `accept`, this stream must be dropped.

        Args:
            update: Yjs's.
            writes: how many there must be after it.

        Returns:
            The new values by their names.

        Raises:
            Refused: it does more, or something other than it should.
        """
        changes: dict[str, Any] = {}
        removed: list[str] = []

        def note(event: Any) -> None:
            for name, change in event.keys.items():
                if change["action"] == "delete":
                    removed.append(name)
                else:
                    changes[name] = change["newValue"]

        subscription = self._map.observe(note)
        try:
            self._doc.apply_update(update)
            state = self._doc.get_state()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise Refused(f"an update of {self.author}'s entries can't be applied: {error}") from error  # a panic is a BaseException
        self._map.unobserve(subscription)
        if removed:
            raise Refused(f"an update removes entries of {self.author}")
        if state != _state(writes):
            raise Refused(f"an update of {self.author}'s entries is not what it says it is")
        return changes

    def accept(self, texts: Mapping[str, str], entries: Mapping[str, Fields], head: Head) -> None:
        """What was applied is fine.

        Raises:
            Refused: it is not what the author signed.
        """
        self._digest.add(texts)
        if self._digest.value() != head.digest:
            raise Refused(f"the entries of {self.author} are not those that it signed")
        self._count(texts)
        self.entries.update(entries)
        self.head = head


def _size_of(name: str, text: str) -> int:
    return len(name.encode()) + len(text.encode())


class _Digest:
    """A digest of named texts that is cheap to bring up to date: hashes in buckets, a Merkle tree of two levels."""

    def __init__(self) -> None:
        self._buckets: list[dict[str, bytes]] = [{} for _ in range(_BUCKETS)]
        self._values = [b""] * _BUCKETS

    def add(self, texts: Mapping[str, str]) -> None:
        touched = set()
        for name, text in texts.items():
            key = hashlib.sha256(name.encode()).digest()
            self._buckets[key[0]][name] = hashlib.sha256(key + text.encode()).digest()
            touched.add(key[0])
        for bucket in touched:
            self._values[bucket] = _hash(sorted(self._buckets[bucket].values()))

    def value(self) -> bytes:
        return _hash(self._values)


def _hash(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _state(writes: int) -> bytes:
    """Yjs's state vector of a reader that has seen so many writes: a number of clients, and of each its number and its clock."""
    return bytes([1, _CLIENT, *_varint(writes)]) if writes else b"\x00"


def _varint(number: int) -> Iterable[int]:
    while number >= 0x80:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
