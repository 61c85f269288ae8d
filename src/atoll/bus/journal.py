"""A listener's journal: what it acknowledged and has not begun, and what it has begun, in a file that outlives a killed process.

Written with one `write` for each record and no fsync: it guards against the death of a process, not of the machine. Whoever is started
under the same name takes the file of the dead over: it executes what was acknowledged and not begun, and can tell a sender whether its
message was begun. A file is locked (flock) by the process whose journal it is.

    taken  1 | origin u64 | number u64 | length u32 | the request's frame
    begun  2 | origin u64 | number u64 | 0
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from atoll.bus.frames import Instance, MessageId

_RECORD = struct.Struct("!BQQI")
_TAKEN, _BEGUN = 1, 2

MAX_BYTES = 8 * 1024 * 1024
"""A journal that grew by so much is written anew, without what is over."""

KEPT_BEGUN = 10_000
"""How many of the messages begun last are kept: a sender asks for the last second's, not for the last day's."""


class Journal:
    """The journal of one listener. Not locked: its listener is."""

    def __init__(self, directory: Path, instance: Instance) -> None:
        """Begin a journal.

        Args:
            directory: of all who listen under the same name; made if it is not there.
            instance: whose journal it is.

        Raises:
            OSError: it can't be written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{instance}.journal"
        self._taken: dict[MessageId, bytes] = {}
        self._begun: dict[MessageId, None] = {}
        self._size, self._limit = 0, MAX_BYTES
        self._file = _create(self._path)

    def taken(self, message: MessageId, frame: bytes) -> None:
        """The message will be acknowledged."""
        self._taken[message] = frame
        self._write(_RECORD.pack(_TAKEN, *message, len(frame)) + frame)

    def begun(self, message: MessageId) -> None:
        """The message is about to be executed."""
        self._taken.pop(message, None)
        self._begun[message] = None
        self._write(_RECORD.pack(_BEGUN, *message, 0))

    def close(self) -> None:
        """Let a successor have the file."""
        os.close(self._file)

    def _write(self, record: bytes) -> None:
        os.write(self._file, record)
        self._size += len(record)
        if self._size > self._limit:
            self._shorten()

    def _shorten(self) -> None:
        """Write anew what is still needed, and put it in the old file's place in one step."""
        self._begun = dict.fromkeys(list(self._begun)[-KEPT_BEGUN:])
        records = [_RECORD.pack(_TAKEN, *message, len(frame)) + frame for message, frame in self._taken.items()]
        records += [_RECORD.pack(_BEGUN, *message, 0) for message in self._begun]
        temporary = self._path.with_suffix(".new")
        new = _create(temporary)
        for record in records:
            os.write(new, record)
        temporary.rename(self._path)
        os.close(self._file)
        self._file, self._size = new, sum(map(len, records))
        self._limit = self._size + MAX_BYTES


class Past:
    """What dead processes of the same name left: for each message whether it was begun."""

    def __init__(self) -> None:
        self._begun: dict[Instance, set[MessageId]] = {}

    def remembers(self, instance: Instance) -> bool:
        """Whether this instance's journal was taken over."""
        return instance in self._begun

    def was_begun(self, instance: Instance, message: MessageId) -> bool:
        """Whether that instance began to execute the message."""
        return message in self._begun[instance]

    def take_over(self, directory: Path) -> Iterator[tuple[MessageId, bytes]]:
        """The requests (frames) that dead processes acknowledged and never began; a file is removed when all of its were handled."""
        for path in sorted(directory.glob("????????????????.*.journal")):
            file = os.open(path, os.O_RDONLY)
            try:
                if _lock(file) and path.exists():
                    taken, begun = _read(path.read_bytes())
                    self._begun[_instance(path)] = begun
                    yield from taken.items()
                    path.unlink()
            finally:
                os.close(file)


def journal_directory(root: Path, *names: str) -> Path:
    """The directory for the journals of all who listen under the same names (vhost, exchange, topic, server)."""
    name = "+".join(quote(part, safe="") for part in names)
    # A file's name has at most 255 bytes.
    return root / (name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest())


def _create(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _lock(file)
    return file


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _instance(path: Path) -> Instance:
    node, listener = path.stem.split(".")
    return Instance(int(node, 16), int(listener))


def _read(data: bytes) -> tuple[dict[MessageId, bytes], set[MessageId]]:
    """What was taken and not begun, and what was begun. A record that the death cut short was not acknowledged yet: it is left out."""
    taken: dict[MessageId, bytes] = {}
    begun: set[MessageId] = set()
    position = 0
    while position + _RECORD.size <= len(data):
        kind, origin, number, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if position + length > len(data):
            break
        if kind == _TAKEN:
            taken[MessageId(origin, number)] = data[position : position + length]
        else:
            begun.add(MessageId(origin, number))
        position += length
    return {message: frame for message, frame in taken.items() if message not in begun}, begun
