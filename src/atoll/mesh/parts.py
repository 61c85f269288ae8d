"""What sites send each other of the document: parts, one for each author, and state vectors that tell what a site has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgpack

from atoll.mesh.record import Refused

MAX_UPDATE_BYTES = 64 * 1024 * 1024

Version = tuple[int, int, bytes]
"""(generation, writes, digest) of a stream; ordered."""


class Head(NamedTuple):
    """What an author says about its entries.

    Attributes:
        generation: a stamp: when the author began this map. It begins a new one if it lost the old one.
        writes: how many led to this state; Yjs's clock of the only client.
        stamp: none of the entries has a greater one.
        digest: of all entries.
        signature: of the author, for all this.
    """

    generation: int
    writes: int
    stamp: int
    digest: bytes
    signature: bytes = b""

    @property
    def version(self) -> Version:
        """Versions are in an order that all sites share, even those of an author who signs contradictory things."""
        return self.generation, self.writes, self.digest

    def signed(self, author: str) -> bytes:
        """The bytes that the signature is for."""
        return bytes(msgpack.packb(["atoll.mesh.head", author, self.generation, self.writes, self.stamp, self.digest]))


class Part(NamedTuple):
    """What one site tells another about one author.

    Attributes:
        author: whose entries.
        base: how many writes the reader must have seen; 0: it needs nothing, this is all.
        update: Yjs's update (version 1).
        head: what the author says about the state that it leads to.
    """

    author: str
    base: int
    update: bytes
    head: Head

    def pack(self) -> bytes:
        """This part as bytes."""
        return bytes(msgpack.packb([self.author, self.base, self.update, list(self.head)]))

    @classmethod
    def unpack(cls, data: bytes) -> Part:
        """A part from bytes, which may be hostile.

        Raises:
            Refused: it is none.
        """
        try:
            author, base, update, head = _unpack(data)
            part = cls(author, base, update, Head(*head))
        except (TypeError, ValueError) as error:
            raise Refused(f"a part is malformed: {error}") from error
        types = [type(item) for item in (part.author, part.base, part.update, *part.head)]
        if types != [str, int, bytes, int, int, int, bytes, bytes]:
            raise Refused("a part is malformed: values of wrong types")
        if not (0 <= part.base < part.head.writes < 2**53 and 0 <= part.head.generation <= part.head.stamp < 2**63):
            raise Refused("a part is malformed: its numbers make no sense")
        return part


def pack_parts(parts: Iterable[Part]) -> bytes:
    """Parts as one update."""
    return bytes(msgpack.packb([part.pack() for part in parts]))


def unpack_parts(update: bytes) -> list[Part]:
    """The parts of an update.

    Raises:
        Refused: it is none.
    """
    parts = _unpack(update)
    if not isinstance(parts, list) or not all(isinstance(part, bytes) for part in parts):
        raise Refused("an update is malformed")
    return [Part.unpack(part) for part in parts]


def pack_state(versions: Mapping[str, Version]) -> bytes:
    """A state vector."""
    return bytes(msgpack.packb(dict(sorted(versions.items()))))


def digest_of(state: bytes) -> bytes:
    """The digest (8 bytes) of the document that has this state vector."""
    return hashlib.sha256(state).digest()[:8]


def unpack_state(data: bytes) -> dict[str, Version]:
    """The versions that a state vector names.

    Raises:
        Refused: it is none.
    """
    state = _unpack(data)
    if not isinstance(state, dict) or not all(isinstance(author, str) and _is_version(version) for author, version in state.items()):
        raise Refused("a state vector is malformed")
    return {author: (version[0], version[1], version[2]) for author, version in state.items()}


def _is_version(version: object) -> bool:
    return (
        isinstance(version, list) and [type(item) for item in version] == [int, int, bytes] and version[0] >= 0 and 0 <= version[1] < 2**53
    )


def _unpack(data: bytes) -> Any:
    if len(data) > MAX_UPDATE_BYTES:
        raise Refused(f"a message of the document is larger than {MAX_UPDATE_BYTES} bytes")
    try:
        return msgpack.unpackb(data)  # which allows nothing in it to be larger than it is
    except Exception as error:  # msgpack raises ValueError, and more by whatever is in it
        raise Refused(f"a message of the document is malformed: {error}") from error
