"""A listener's journal: what it acknowledged and has not begun, and what it has begun, in a file that outlives a killed process.

The file is mapped into memory: a record costs no system call, and the kernel keeps what a killed process had written. A durable journal
flushes each record (msync), so that it survives a loss of power too: what was acknowledged is executed, and what was begun is not begun
again. A record's first byte is written last, so that a killed process leaves it whole or not at all. A loss of power may leave a part of
a record that was not acknowledged; its frame can't be decoded, and is dropped.

The process whose journal it is holds a lock (flock) on it. Whoever is started under the same name takes over the files of the
dead: it executes what was acknowledged and not begun, and can tell a sender whether its message was begun.

    taken  1 | origin u64 | number u64   | length u32 | the request's frame
    begun  2 | origin u64 | number u64   | 0
    heir   3 | node u64   | listener u64 | 0             this file also holds what that dead listener's held
    end    0
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from atoll.bus.frames import Instance, MessageId

_HEAD = struct.Struct("!BQQI")

MIN_BYTES = 1024 * 1024
"""Size of a journal; when it is full it is written anew without what is over, twice as large as what is left, if that is more."""

MAX_PAST = 50_000
"""Begun messages of dead processes that are remembered; beyond it nothing is claimed of any of them."""


class Kind(IntEnum):
    """What a record says."""

    TAKEN = 1
    BEGUN = 2
    HEIR = 3


class Record(NamedTuple):
    """One record: about a message, or, of kind HEIR, about an instance given as two numbers."""

    kind: Kind
    id: MessageId
    frame: bytes = b""


class Journal:
    """The journal of one listener. Not locked: its listener is."""

    def __init__(self, directory: Path, instance: Instance, needed: Callable[[], Iterable[Record]], *, durable: bool = True) -> None:
        """Begin a journal.

        Args:
            directory: of all who listen under the same name; made if it is not there.
            instance: whose journal it is.
            needed: what must be kept of messages that were begun, and of the past; called when the journal is written anew.
            durable: flush each record to the disk.

        Raises:
            OSError: it can't be written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{instance}.journal"
        self._node = instance.node
        self._durable = durable
        self._needed = needed
        self._taken: dict[MessageId, bytes] = {}
        self._position = self._flushed = 0
        self._file, self._map = _create(self._path, MIN_BYTES)
        self._flush_names()

    def taken(self, message: MessageId, frame: bytes) -> None:
        """The message will be acknowledged.

        Raises:
            OSError: the journal is full and can't be made larger; nothing was written.
        """
        self._write(Record(Kind.TAKEN, message, frame))
        self._taken[message] = frame

    def begun(self, message: MessageId) -> None:
        """The message is about to be executed.

        Raises:
            OSError: as above.
        """
        was_taken = self._taken.pop(message, None) is not None
        # Nobody asks after a call of this node's own once the power has gone.
        self._write(Record(Kind.BEGUN, message), flush=was_taken or message.origin != self._node)

    def inherit(self, records: Iterable[Record]) -> None:
        """Keep what dead processes left.

        Raises:
            OSError: as above.
        """
        for record in records:
            self._write(record)

    def close(self) -> None:
        """Let a successor have the file."""
        self._map.close()
        os.close(self._file)

    def _write(self, record: Record, *, flush: bool = True) -> None:
        if self._position + _size(record) + 1 > len(self._map):
            self._renew(_size(record))
        self._position = _put(self._map, self._position, record)
        if self._durable and flush:
            # Also what was not flushed before: a reader ends at the first gap.
            page = self._flushed - self._flushed % mmap.PAGESIZE
            self._map.flush(page, self._position - page)
            self._flushed = self._position

    def _flush_names(self) -> None:
        """Have the file's size and its name on the disk, and that of its directory, which may be new."""
        if self._durable:
            os.fsync(self._file)
            for directory in (self._path.parent, self._path.parent.parent):
                _flush(directory)

    def _renew(self, room: int) -> None:
        """Write anew what is still needed, and put it in the old file's place in one step."""
        records = [Record(Kind.TAKEN, message, frame) for message, frame in self._taken.items()]
        records += self._needed()
        used = sum(map(_size, records))
        temporary = self._path.with_suffix(".new")
        file, mapped = _create(temporary, max(MIN_BYTES, 2 * (used + room)))
        position = 0
        for record in records:
            position = _put(mapped, position, record)
        if self._durable:
            os.fsync(file)  # what is mapped, too
        temporary.rename(self._path)
        self.close()
        self._file, self._map, self._position, self._flushed = file, mapped, position, 0
        self._flush_names()


class Past:
    """What dead processes of the same name left."""

    def __init__(self) -> None:
        self._instances: set[Instance] = set()
        self._begun: set[MessageId] = set()

    def remembers(self, instance: Instance) -> bool:
        """Whether this instance's journal was taken over, by this process or by one whose journal it took over."""
        return instance in self._instances

    def was_begun(self, message: MessageId) -> bool:
        """Whether one of them began to execute the message."""
        return message in self._begun

    def records(self) -> list[Record]:
        """What a successor must know of it."""
        heirs = [Record(Kind.HEIR, MessageId(*instance)) for instance in self._instances]
        return heirs + [Record(Kind.BEGUN, message) for message in self._begun]

    @contextlib.contextmanager
    def take_over(self, directory: Path) -> Iterator[dict[MessageId, bytes]]:
        """The requests (frames) that dead processes acknowledged and never began; at the end of the context their files are removed.

        All files count together: a process that was killed while it took over another's has left what it began in its own.
        """
        with contextlib.ExitStack() as stack:
            paths = [path for path in sorted(directory.glob("????????????????.*.journal")) if _take(path, stack)]
            taken: dict[MessageId, bytes] = {}
            for path in paths:
                self._instances.add(_instance(path))
                for record in read(path.read_bytes()):
                    self._learn(record, taken)
            left = {message: frame for message, frame in taken.items() if message not in self._begun}
            if len(self._begun) > MAX_PAST:
                # Both: what is handed on without its instances would make every later life forget as well.
                self._instances.clear()
                self._begun.clear()
            yield left
            for path in paths:
                path.with_suffix(".new").unlink(missing_ok=True)
                path.unlink()

    def _learn(self, record: Record, taken: dict[MessageId, bytes]) -> None:
        if record.kind is Kind.TAKEN:
            taken[record.id] = record.frame
        elif record.kind is Kind.BEGUN:
            self._begun.add(record.id)
        else:
            self._instances.add(Instance(*record.id))


def read(data: bytes) -> Iterator[Record]:
    """The records in a journal's bytes, up to its end or to the first that makes no sense."""
    position = 0
    while position + _HEAD.size <= len(data) and data[position]:
        kind, origin, number, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if kind > Kind.HEIR or position + length > len(data):
            return
        yield Record(Kind(kind), MessageId(origin, number), data[position : position + length])
        position += length


def unbegun(root: Path) -> Iterator[bytes]:
    """The requests (frames) in all journals below a directory that were acknowledged and not begun.

    Call it while nobody listens: whoever is started under the name of a dead listener executes these.

    Args:
        root: where the directories of the journals are; see `journal_directory`.
    """
    for directory in root.glob("*/"):
        records = [record for path in directory.glob("*.journal") for record in read(path.read_bytes())]
        begun = {record.id for record in records if record.kind is Kind.BEGUN}
        yield from {record.id: record.frame for record in records if record.kind is Kind.TAKEN and record.id not in begun}.values()


def journal_directory(root: Path, *names: str) -> Path:
    """The directory for the journals of all who listen under the same names (vhost, kind, exchange, topic, server)."""
    name = "+".join(quote(part, safe="") for part in names)
    # A file's name has at most 255 bytes.
    return root / (name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest())


def _size(record: Record) -> int:
    return _HEAD.size + len(record.frame)


def _put(mapped: mmap.mmap, position: int, record: Record) -> int:
    """Write a record and return the position after it; the caller has seen to it that there is room."""
    data = _HEAD.pack(0, *record.id, len(record.frame)) + record.frame
    end = position + len(data)
    mapped[position:end] = data
    mapped[position] = record.kind
    return end


def _create(path: Path, size: int) -> tuple[int, mmap.mmap]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _lock(file)
        # Now, and not as a signal (SIGBUS) when a page is first written, is the time to hear that the disk is full.
        os.posix_fallocate(file, 0, size)
        return file, mmap.mmap(file, size)
    except BaseException:
        os.close(file)
        path.unlink()
        raise


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock the journal of a process that died; False: it lives, or another has taken it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    stack.callback(os.close, file)
    return _lock(file) and _is_at(file, path)


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file still has this name: a successor may have removed it, or its living owner put another in its place."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _instance(path: Path) -> Instance:
    node, listener = path.stem.split(".")
    return Instance(int(node, 16), int(listener))
