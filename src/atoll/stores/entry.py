"""An entry of the log: its encoding, and the keys, which are digests of the rows and values that a transaction writes or relies on."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgpack

KEY_BYTES = 8
"""Bytes of a key: a digest of a row, a unique value or a table. A collision of two keys only causes a needless conflict."""

SCHEMA = b"\0" * KEY_BYTES
"""Key of the whole schema: DDL writes it, and every transaction relies on it."""

ANY = b"\xff" * KEY_BYTES
"""Key that is treated as written by every transaction. DDL, which may copy whole tables, relies on it: so DDL conflicts with every
write."""

Segment = tuple[Literal["c", "d"], bytes | str]
"""Part of a transaction, in order: a changeset of rows (`c`) or the text of a DDL statement (`d`)."""


class Entry(NamedTuple):
    """A transaction in the log."""

    n: int
    """Position in the log, from 1."""
    txid: bytes
    """Id of the transaction: 16 random bytes."""
    keys: bytes
    """Keys that the transaction wrote, concatenated."""
    payload: bytes
    """Segments (`Segment`) of the transaction, encoded by `pack`."""


def pack(segments: Iterable[Segment]) -> bytes:
    """Encode the segments of a transaction."""
    return bytes(msgpack.packb([list(segment) for segment in segments]))


def unpack(payload: bytes) -> list[Segment]:
    """Decode the segments of a transaction.

    Raises:
        ValueError: the bytes are not a payload.
    """
    try:
        segments = [(kind, what) for kind, what in msgpack.unpackb(payload)]
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"{len(payload)} bytes that are no log entry") from error
    if not all((kind == "c" and isinstance(what, bytes)) or (kind == "d" and isinstance(what, str)) for kind, what in segments):
        raise ValueError(f"{len(payload)} bytes that are no log entry")
    return segments


Value = None | int | float | str | bytes


def key(table: str, purpose: str, values: Sequence[Value] = ()) -> bytes:
    """Return the key of some values of a table.

    Equal values have the same key whatever their types, because SQLite treats 1 and 1.0 as equal in an index.

    Args:
        table: the table's name.
        purpose: the kind of key: "" for the table itself, "row" for a primary key, otherwise the name of an index or of one side of a
            foreign key.
        values: values of the columns.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in (table.casefold(), purpose, *values):
        raw = _raw(part)
        digest.update(struct.pack(">I", len(raw)))
        digest.update(raw)
    return digest.digest()


def _raw(value: Value) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (int, float)):
        return b"i" + repr(value).encode()
    return b"s" + value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b"b" + bytes(value)
