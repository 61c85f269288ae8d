"""A stream: the entries of one site as a map (a Yjs document, by pycrdt), and its head, which the site signs.

Only its author writes into a stream, so it has no internal conflicts. Yjs computes the entries that a reader lacks from the number of
writes that the reader has. The structure of a Yjs update is not signed: a relay could omit or alter parts of it. So the author signs a
digest of all its entries, with the number of writes so far. An update that does not give exactly the signed digest is refused, and one
signature covers any number of entries.

A stream has a *weight*, an upper bound of its size in memory and on the wire. Writer and readers apply the same bound: readers accept
every stream that an author can write, and a stored stream can be read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pycrdt import Doc, Map

from atoll.mesh.entry import Fields
from atoll.mesh.parts import Head, Part
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer

_ROOT = "entries"
_CLIENT = 1
_BUCKETS = 256

MAX_WEIGHT = 60 * 1024 * 1024
"""The greatest weight of a stream in bytes. A whole stream is then smaller than `MAX_UPDATE_BYTES`, the bound for reading."""

ENTRY_WEIGHT = 256
"""The weight of an entry in bytes beside its name and its text: a reader's memory for it, and Yjs's structure."""

OVERWRITTEN_WEIGHT = 32
"""The weight of an overwritten value in bytes: Yjs keeps its place in the history."""


class Stream:
    """The entries of one author."""

    def __init__(self, author: str) -> None:
        """Start a stream without entries.

        Args:
            author: the author of the stream.
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
        """The number of writes so far."""
        return self.head.writes if self.head else 0

    @property
    def weight(self) -> int:
        """The weight in bytes (`MAX_WEIGHT`)."""
        return self._weight(self._size, len(self._sizes), self.writes)

    @property
    def waste(self) -> int:
        """The part of the weight, in bytes, that a new generation with the same entries would not have."""
        return OVERWRITTEN_WEIGHT * (self.writes - len(self._sizes))

    def weight_with(self, texts: Mapping[str, str], writes: int) -> int:
        """Return the weight in bytes with further entries, and this number of writes."""
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
        """Return the part for a reader that has `base` writes. The stream must have a head."""
        assert self.head is not None
        return Part(self.author, base, self._doc.get_update(_state(base)), self.head)

    def write(self, texts: Mapping[str, str], entries: Mapping[str, Fields], *, generation: int, stamp: int, signer: Signer) -> Part:
        """Write entries of this site's own.

        Args:
            texts: the texts of the entries.
            entries: the same entries.
            generation: the generation of the stream, if this is the first write.
            stamp: a stamp not less than any in the entries.
            signer: the author's key.

        Returns:
            The part for readers.
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
        """Apply an update that may be hostile. After a refusal, or without a following `accept`, drop this stream.

        Args:
            update: Yjs's update.
            writes: the number of writes after it.

        Returns:
            The new values by their names.

        Raises:
            Refused: the update can't be applied, removes entries, or does not result in `writes` writes.
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
            raise Refused(f"an update of {self.author}'s entries does not lead to the state that it names")
        return changes

    def accept(self, texts: Mapping[str, str], entries: Mapping[str, Fields], head: Head) -> None:
        """Accept the applied update.

        Raises:
            Refused: the entries do not match the author's signed digest.
        """
        self._digest.add(texts)
        if self._digest.value() != head.digest:
            raise Refused(f"the entries of {self.author} are not the signed ones")
        self._count(texts)
        self.entries.update(entries)
        self.head = head


def _size_of(name: str, text: str) -> int:
    return len(name.encode()) + len(text.encode())


class _Digest:
    """An incremental digest of named texts: hashes in buckets, a Merkle tree of two levels."""

    def __init__(self) -> None:
        # Most streams of a large cloud have a few entries: empty buckets are not kept.
        self._buckets: dict[int, dict[str, bytes]] = {}
        self._values: dict[int, bytes] = {}

    def add(self, texts: Mapping[str, str]) -> None:
        touched = set()
        for name, text in texts.items():
            key = hashlib.sha256(name.encode()).digest()
            self._buckets.setdefault(key[0], {})[name] = hashlib.sha256(key + text.encode()).digest()
            touched.add(key[0])
        for bucket in touched:
            self._values[bucket] = _hash(sorted(self._buckets[bucket].values()))

    def value(self) -> bytes:
        return _hash(self._values.get(bucket, b"") for bucket in range(_BUCKETS))


def _hash(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _state(writes: int) -> bytes:
    """Return Yjs's state vector for this number of writes: the number of clients, and each one's number and clock."""
    return bytes([1, _CLIENT, *_varint(writes)]) if writes else b"\x00"


def _varint(number: int) -> Iterable[int]:
    while number >= 0x80:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
