"""A file that arrives in chunks, in any order, and survives a restart."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

CHUNK = 4 << 20
"""Bytes. At 100 Mbit/s one takes a third of a second: little is lost by a cut, and a round trip between two is small against it."""


class Partial:
    """The file, and beside it a journal: a line that tells what it is to become, then the number and SHA-256 of each chunk that is there.

    Neither is synced to the disk. After a loss of power the journal may name chunks that are not there; `drop_damaged` finds them.

    Args:
        path: of the file; the journal's name ends with `.journal`.
        size: bytes of the whole.
        identity: the whole's hash; a file that was begun for another is begun again.
        chunk: bytes of a chunk; only the last may be shorter.

    Raises:
        OSError: neither can be written.
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
        """Bytes that are there."""
        return sum(self.span(index)[1] for index in self._there)

    def __contains__(self, index: int) -> bool:
        return index in self._there

    def missing(self) -> list[int]:
        """The chunks that are not there."""
        return [index for index in range(self.count) if index not in self._there]

    def span(self, index: int) -> tuple[int, int]:
        """Offset and length of a chunk."""
        offset = index * self.chunk
        return offset, min(self.chunk, self.size - offset)

    def write(self, offset: int, piece: bytes) -> None:
        """Write some of a chunk that is not there yet."""
        os.pwrite(self._file, piece, offset)

    def add(self, index: int, digest: str) -> None:
        """A chunk is there, and its SHA-256 is right."""
        self._there[index] = digest
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{index} {digest}\n")

    def read(self, index: int) -> bytes:
        """A chunk. To be called in a thread: it waits for the disk."""
        offset, length = self.span(index)
        return os.pread(self._file, length, offset)

    def drop_damaged(self) -> int:
        """Forget the chunks that are not what was received, and return how many. To be called in a thread."""
        damaged = [index for index, digest in self._there.items() if hashlib.sha256(self.read(index)).hexdigest() != digest]
        for index in damaged:
            del self._there[index]
        self._rewrite()
        return len(damaged)

    def close(self) -> None:
        """Leave it for another time."""
        os.close(self._file)

    def remove(self) -> None:
        """It is no longer needed."""
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
