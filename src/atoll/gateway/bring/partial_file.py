"""A file that arrives in chunks, in any order, and whose transfer survives a restart."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

CHUNK = 4 << 20
"""Bytes of a chunk. At 100 Mbit/s, one takes a third of a second: an interruption loses little, and a round trip between chunks costs
little."""


class PartialFile:
    """The file, with a journal beside it: a line that identifies the whole file, then number and SHA-256 of each chunk that has arrived.

    Neither is synced to the disk. After a loss of power the journal may name chunks that are not there; `drop_damaged` finds them.

    Args:
        path: the path of the file; the journal's name ends with `.journal`.
        size: size of the whole file in bytes.
        identity: the hash of the whole file; a partial file with another hash is begun again.
        chunk: size of a chunk in bytes; only the last chunk may be shorter.

    Raises:
        OSError: the file or the journal can't be written.
    """

    def __init__(self, path: Path, size: int, identity: str, chunk: int = CHUNK) -> None:
        self.path = path
        self.size = size
        self.chunk = chunk
        self.count = -(-size // chunk)
        self._journal = path.with_name(path.name + ".journal")
        self._head = {"size": size, "identity": identity, "chunk": chunk}
        self._there = self._read()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, size)
        self._rewrite()

    @property
    def have(self) -> int:
        """Number of bytes that have arrived."""
        return sum(self.span(index)[1] for index in self._there)

    def __contains__(self, index: int) -> bool:
        return index in self._there

    def missing(self) -> list[int]:
        """Return the numbers of the chunks that have not arrived."""
        return [index for index in range(self.count) if index not in self._there]

    def span(self, index: int) -> tuple[int, int]:
        """Return offset and length of a chunk in bytes."""
        offset = index * self.chunk
        return offset, min(self.chunk, self.size - offset)

    def write(self, offset: int, piece: bytes) -> None:
        """Write a piece of a chunk that has not arrived yet."""
        os.pwrite(self._file, piece, offset)

    def add(self, index: int, digest: str) -> None:
        """Record a chunk that has arrived whole, with its SHA-256."""
        self._there[index] = digest
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{index} {digest}\n")

    def read(self, index: int) -> bytes:
        """Return a chunk. Call this method in a thread, because it waits for the disk."""
        offset, length = self.span(index)
        return os.pread(self._file, length, offset)

    def drop_damaged(self) -> int:
        """Forget the chunks whose data differ from their recorded SHA-256; return their number. Call this method in a thread."""
        damaged = [index for index, digest in self._there.items() if hashlib.sha256(self.read(index)).hexdigest() != digest]
        for index in damaged:
            del self._there[index]
        self._rewrite()
        return len(damaged)

    def close(self) -> None:
        """Close the file and keep it for the next attempt."""
        os.close(self._file)

    def remove(self) -> None:
        """Delete the file and its journal."""
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def _read(self) -> dict[int, str]:
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        if not lines or not self.path.exists() or _json(lines[0]) != self._head:
            return {}
        there = {}
        for line in lines[1:]:
            index, _, digest = line.partition(" ")
            if index.isdigit() and int(index) < self.count and len(digest) == 64:  # the last line may be torn
                there[int(index)] = digest
        return there

    def _rewrite(self) -> None:
        lines = [json.dumps(self._head), *(f"{index} {digest}" for index, digest in self._there.items())]
        new = self._journal.with_name(self._journal.name + ".new")
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.replace(self._journal)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
