"""The head of an overlay: its signed header, and the table of its segments.

    offset  bytes  field
         0      8  "ATOLLOVL"
         8      2  version, u16: 1
        10      2  algorithm of the signature, u16: 1 Ed25519, 2 ECDSA on P-256 with SHA-256
        12      2  number of parts of the result, u16: 1 to 8
        14      2  0
        16      4  number of segments, u32: at most 1,048,576
        20      4  0
        24      8  sum of the segments' lengths in bytes, u64
        32     32  digest of the base image
        64     32  root of the Merkle tree over the segments
        96      n  description of the result (`description`), n = 128 + 56 for each part
      96+n     64  signature of "atoll cloudlet overlay 1", a zero byte and everything before
     160+n         table: for each segment its length in bytes, u32, and its BLAKE3 digest, 32 bytes
                   the segments

All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from atoll.cloudlet import merkle
from atoll.cloudlet.description import HEAD, MOST_PARTS, PART, ImageDescription, parse
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.keys import ED25519, P256, SIGNATURE, SigningKey, TrustedKey, find_signer
from atoll.cloudlet.pages import DIGEST
from atoll.cloudlet.segment import LONGEST, SHORTEST
from atoll.errors import AtollError

VERSION = 1
"""Version of the format."""

MOST_SEGMENTS = 1 << 20
"""Greatest number of segments of an overlay."""

Read = Callable[[int], bytes]
"""A function that returns exactly the requested number of bytes, or raises an `AtollError`."""

_MAGIC = b"ATOLLOVL"
_FIXED = struct.Struct("<8sHHHHIIQ32s32s")
_ENTRY = struct.Struct("<I32s")
_DOMAIN = b"atoll cloudlet overlay 1\0"


@dataclass(frozen=True)
class Entry:
    """A segment in the table.

    Attributes:
        length: the segment's length in bytes.
        digest: the segment's BLAKE3.
    """

    length: int
    digest: bytes

    @property
    def leaf(self) -> bytes:
        """The segment's leaf in the Merkle tree."""
        return merkle.leaf(self.length, self.digest)


@dataclass(frozen=True)
class Header:
    """The signed header of an overlay.

    Attributes:
        base: the digest of the base image.
        result: the description of the image that results from base and overlay.
        segments: the number of segments.
        length: the sum of the segments' lengths, in bytes.
        root: the root of the Merkle tree over the segments.
    """

    base: bytes
    result: ImageDescription
    segments: int
    length: int
    root: bytes

    @property
    def head_length(self) -> int:
        """Number of bytes of the overlay before its first segment."""
        return head_length(len(self.result.parts), self.segments)

    def pack(self, algorithm: int) -> bytes:
        """Return the header as the bytes that are signed."""
        parts = len(self.result.parts)
        fixed = _FIXED.pack(_MAGIC, VERSION, algorithm, parts, 0, self.segments, 0, self.length, self.base, self.root)
        return fixed + self.result.pack()


def head_length(parts: int, segments: int) -> int:
    """Return the number of bytes of an overlay before its first segment."""
    return _FIXED.size + HEAD + parts * PART.size + SIGNATURE + segments * _ENTRY.size


def write_head(base: bytes, result: ImageDescription, entries: Sequence[Entry], key: SigningKey) -> bytes:
    """Return the header, the signature and the table of an overlay.

    Args:
        base: the digest of the base image.
        result: the description of the result.
        entries: the table of the segments.
        key: the key that signs.
    """
    root = merkle.root([entry.leaf for entry in entries])
    header = Header(base, result, len(entries), sum(entry.length for entry in entries), root)
    signed = header.pack(key.algorithm)
    return signed + key.sign(_DOMAIN + signed) + b"".join(_ENTRY.pack(entry.length, entry.digest) for entry in entries)


def read_header(read: Read, trusted: Iterable[TrustedKey], where: str) -> Header:
    """Read and return a header; see `read_signed`, which also returns the signer."""
    return read_signed(read, trusted, where)[0]


def read_signed(read: Read, trusted: Iterable[TrustedKey], where: str) -> tuple[Header, int]:
    """Read a header, and check its signature before anything else is read.

    Args:
        read: reads the overlay from its beginning.
        trusted: the keys whose signatures are accepted; they are tried in order, until one verifies the signature.
        where: the overlay's name, for errors.

    Returns:
        The header, and the position in `trusted` of the key that signed it.

    Raises:
        AtollError: `cloudlet.invalid`: the header is malformed; `cloudlet.untrusted`: none of the trusted keys made the signature.
    """
    fixed = read(_FIXED.size)
    magic, version, algorithm, parts, zero, segments, zero_, length, base, root = _FIXED.unpack(fixed)
    if magic != _MAGIC:
        raise invalid(where, "this is not an overlay", "expected a file that `atoll cloudlet overlay` made")
    if version != VERSION:
        raise invalid(where, f"version {version} of the format", f"expected version {VERSION}")
    shortest, longest = segments * SHORTEST, segments * LONGEST
    if not 1 <= parts <= MOST_PARTS or segments > MOST_SEGMENTS or not shortest <= length <= longest or zero or zero_:
        raise invalid(where, "a damaged header", "fetch the overlay again")
    if algorithm not in {ED25519, P256}:
        raise invalid(where, f"signature algorithm {algorithm}", "expected Ed25519 or P-256")
    described = read(HEAD + parts * PART.size)
    signer = find_signer(trusted, algorithm, _DOMAIN + fixed + described, read(SIGNATURE))
    if signer is None:
        message = f"{where}: none of the trusted keys signed this overlay, or it is damaged"
        raise AtollError("cloudlet.untrusted", message, "if you trust the overlay's maker, give the maker's key with --trust")
    return Header(base, parse(described, parts, where), segments, length, root), signer


def read_table(read: Read, header: Header, where: str) -> list[Entry]:
    """Read and return the table of segments, and check it against the Merkle root of a signed header.

    Raises:
        AtollError: `cloudlet.invalid`: the table differs from the signed one.
    """
    entries: list[Entry] = []
    while len(entries) < header.segments:  # read in pieces, so that memory grows only with bytes that have arrived
        piece = read(_ENTRY.size * min(4096, header.segments - len(entries)))
        entries += [Entry(length, digest) for length, digest in _ENTRY.iter_unpack(piece)]
    if merkle.root([entry.leaf for entry in entries]) != header.root or sum(entry.length for entry in entries) != header.length:
        raise invalid(where, "a damaged table of segments", "fetch the overlay again")
    if not all(SHORTEST <= entry.length <= LONGEST for entry in entries):
        raise invalid(where, "a segment of impossible length", f"expected {SHORTEST} to {LONGEST} bytes")
    return entries


assert len(_MAGIC) == 8
assert DIGEST == 32
