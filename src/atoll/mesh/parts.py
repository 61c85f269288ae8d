"""Parts of the document, each of one author, which sites exchange; and state vectors, which name the versions that a site has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgpack

from atoll.mesh.refusals import Refused

MAX_UPDATE_BYTES = 64 * 1024 * 1024

Version = tuple[int, int, bytes]
"""The version of a stream: (generation, writes, digest). The greater of two versions is the later one."""


class Head(NamedTuple):
    """The signed head of an author's stream.

    Attributes:
        generation: the stamp at which the author began this generation of its stream.
        writes: the number of writes so far; Yjs's clock of the only client.
        stamp: an upper bound of the entries' stamps.
        digest: the digest of all entries.
        signature: the author's signature over all other fields.
    """

    generation: int
    writes: int
    stamp: int
    digest: bytes
    signature: bytes = b""

    @property
    def version(self) -> Version:
        """The version. All sites order versions alike, even those of an author that signs contradictory heads."""
        return self.generation, self.writes, self.digest

    def signed(self, author: str) -> bytes:
        """Return the bytes that are signed."""
        return bytes(msgpack.packb(["atoll.mesh.head", author, self.generation, self.writes, self.stamp, self.digest]))


class Part(NamedTuple):
    """A part of one author's stream.

    Attributes:
        author: the author of the entries.
        base: the number of writes that the reader must have; 0 if the part is the whole stream.
        update: Yjs's update (version 1).
        head: the head of the stream after the update.
    """

    author: str
    base: int
    update: bytes
    head: Head

    def pack(self) -> bytes:
        """Return the part as bytes."""
        return bytes(msgpack.packb([self.author, self.base, self.update, list(self.head)]))

    @classmethod
    def unpack(cls, data: bytes) -> Part:
        """Return a part from bytes, which may be hostile.

        Raises:
            Refused: the bytes are not a part.
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
            raise Refused("a part is malformed: its numbers are out of range")
        return part


def pack_parts(parts: Iterable[Part]) -> bytes:
    """Return parts as one update."""
    return bytes(msgpack.packb([part.pack() for part in parts]))


def unpack_parts(update: bytes) -> list[Part]:
    """Return the parts of an update.

    Raises:
        Refused: the bytes are not an update.
    """
    parts = _unpack(update)
    if not isinstance(parts, list) or not all(isinstance(part, bytes) for part in parts):
        raise Refused("an update is malformed")
    return [Part.unpack(part) for part in parts]


def pack_state(versions: Mapping[str, Version]) -> bytes:
    """Return a state vector as bytes."""
    return bytes(msgpack.packb(dict(sorted(versions.items()))))


def digest_of(state: bytes) -> bytes:
    """Return the digest (8 bytes) of a document with this state vector."""
    return hashlib.sha256(state).digest()[:8]


def unpack_state(data: bytes) -> dict[str, Version]:
    """Return the versions in a state vector.

    Raises:
        Refused: the bytes are not a state vector.
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
        return msgpack.unpackb(data)  # msgpack's limits follow from the size of the data
    except Exception as error:  # msgpack raises ValueError, and other errors for some inputs
        raise Refused(f"a message of the document is malformed: {error}") from error
