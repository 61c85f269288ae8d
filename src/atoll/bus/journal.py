"""A listener's journal: a file of acknowledged and begun messages that outlives a killed process.

The journal holds the messages that the listener acknowledged and has not begun, and those that it has begun. The file is mapped into
memory: an entry costs no system call, and the kernel keeps the writes of a killed process. A durable journal flushes each entry (msync),
so that it also survives a loss of power: an acknowledged message is executed, and a message that was begun is not begun again. The first
byte of an entry is written last, so that a killed process leaves the entry whole or not at all. A loss of power may leave a part of an
entry that was not acknowledged; its frame can't be decoded, and is dropped.

The process that owns a journal holds a lock (flock) on it. A process that starts under the same name takes over the files of dead ones: it
executes the messages that were acknowledged and not begun, and can answer a sender whether its message was begun.

    taken  1 | origin u64 | number u64   | length u32 | the request's frame
    begun  2 | origin u64 | number u64   | 0
    heir   3 | node u64   | listener u64 | 0             this file also holds the entries of that dead listener's journal
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
"""The least size of a journal in bytes. A full journal is rewritten without the entries that are no longer needed; if the rest needs more
than half of this size, the new file has twice the size of the rest."""

MAX_PAST = 50_000
"""The greatest number of begun messages of dead processes that are remembered. If there are more, all of them are dropped."""


class EntryKind(IntEnum):
    """The kind of a journal entry."""

    TAKEN = 1
    BEGUN = 2
    HEIR = 3


class JournalEntry(NamedTuple):
    """An entry about a message or, of kind HEIR, about an instance given as two numbers."""

    kind: EntryKind
    id: MessageId
    frame: bytes = b""


class Journal:
    """The journal of one listener. It takes no lock; its listener does."""

    def __init__(self, directory: Path, instance: Instance, needed: Callable[[], Iterable[JournalEntry]], *, durable: bool = True) -> None:
        """Create an empty journal file.

        Args:
            directory: the directory for all listeners of the same name; created if it does not exist.
            instance: the listener that owns the journal.
            needed: returns the entries, of begun messages and of predecessors, that stay when the journal is rewritten.
            durable: flush each entry to the disk.

        Raises:
            OSError: the journal can't be written.
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
        """Record a message before it is acknowledged.

        Raises:
            OSError: the journal is full and can't be enlarged; nothing was written.
        """
        self._write(JournalEntry(EntryKind.TAKEN, message, frame))
        self._taken[message] = frame

    def begun(self, message: MessageId) -> None:
        """Record a message before it is executed.

        Raises:
            OSError: as for `taken`.
        """
        was_taken = self._taken.pop(message, None) is not None
        # After a loss of power, nobody asks about a call that this node itself sent.
        self._write(JournalEntry(EntryKind.BEGUN, message), flush=was_taken or message.origin != self._node)

    def inherit(self, records: Iterable[JournalEntry]) -> None:
        """Keep the entries of dead processes.

        Raises:
            OSError: as for `taken`.
        """
        for record in records:
            self._write(record)

    def close(self) -> None:
        """Release the file for a successor."""
        self._map.close()
        os.close(self._file)

    def _write(self, record: JournalEntry, *, flush: bool = True) -> None:
        if self._position + _size(record) + 1 > len(self._map):
            self._renew(_size(record))
        self._position = _put(self._map, self._position, record)
        if self._durable and flush:
            # Flushes earlier entries too: a reader stops at the first gap.
            page = self._flushed - self._flushed % mmap.PAGESIZE
            self._map.flush(page, self._position - page)
            self._flushed = self._position

    def _flush_names(self) -> None:
        """Flush the file's size, its name, and the name of its directory, which may be new."""
        if self._durable:
            os.fsync(self._file)
            for directory in (self._path.parent, self._path.parent.parent):
                _flush(directory)

    def _renew(self, room: int) -> None:
        """Rewrite the journal with the entries that are still needed, and replace the old file in one step."""
        records = [JournalEntry(EntryKind.TAKEN, message, frame) for message, frame in self._taken.items()]
        records += self._needed()
        used = sum(map(_size, records))
        temporary = self._path.with_suffix(".new")
        file, mapped = _create(temporary, max(MIN_BYTES, 2 * (used + room)))
        position = 0
        for record in records:
            position = _put(mapped, position, record)
        if self._durable:
            os.fsync(file)  # flushes the mapped pages too
        temporary.rename(self._path)
        self.close()
        self._file, self._map, self._position, self._flushed = file, mapped, position, 0
        self._flush_names()


class JournalHistory:
    """The entries from journals of dead processes with the same name."""

    def __init__(self) -> None:
        self._instances: set[Instance] = set()
        self._begun: set[MessageId] = set()

    def remembers(self, instance: Instance) -> bool:
        """Return whether the journal of this instance was taken over, by this process or by a predecessor."""
        return instance in self._instances

    def was_begun(self, message: MessageId) -> bool:
        """Return whether a predecessor began to execute the message."""
        return message in self._begun

    def records(self) -> list[JournalEntry]:
        """Return the entries that a successor needs."""
        heirs = [JournalEntry(EntryKind.HEIR, MessageId(*instance)) for instance in self._instances]
        return heirs + [JournalEntry(EntryKind.BEGUN, message) for message in self._begun]

    @contextlib.contextmanager
    def take_over(self, directory: Path) -> Iterator[dict[MessageId, bytes]]:
        """Yield the requests (frames) that dead processes acknowledged and never began; their files are removed when the context ends.

        The files are evaluated together: a process that was killed during a takeover has recorded in its own file the messages that it
        began.
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
                # Both are dropped: if the instances were kept without their begun messages, a begun message would be considered not begun.
                self._instances.clear()
                self._begun.clear()
            yield left
            for path in paths:
                path.with_suffix(".new").unlink(missing_ok=True)
                path.unlink()

    def _learn(self, record: JournalEntry, taken: dict[MessageId, bytes]) -> None:
        if record.kind is EntryKind.TAKEN:
            taken[record.id] = record.frame
        elif record.kind is EntryKind.BEGUN:
            self._begun.add(record.id)
        else:
            self._instances.add(Instance(*record.id))


def read(data: bytes) -> Iterator[JournalEntry]:
    """Return the entries in a journal's bytes, up to the end or to the first malformed one."""
    position = 0
    while position + _HEAD.size <= len(data) and data[position]:
        kind, origin, number, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if kind > EntryKind.HEIR or position + length > len(data):
            return
        yield JournalEntry(EntryKind(kind), MessageId(origin, number), data[position : position + length])
        position += length


def unbegun(root: Path) -> Iterator[bytes]:
    """Return the acknowledged requests (frames) in all journals below a directory that were not begun.

    Call this function while nobody listens: a process that starts under the name of a dead listener executes these requests.

    Args:
        root: the directory of the journals' directories; see `journal_directory`.
    """
    for directory in root.glob("*/"):
        records = [record for path in directory.glob("*.journal") for record in read(path.read_bytes())]
        begun = {record.id for record in records if record.kind is EntryKind.BEGUN}
        yield from {record.id: record.frame for record in records if record.kind is EntryKind.TAKEN and record.id not in begun}.values()


def journal_directory(root: Path, *names: str) -> Path:
    """Return the directory for the journals of all listeners of the same names (vhost, kind, exchange, topic, server)."""
    name = "+".join(quote(part, safe="") for part in names)
    # A file name has at most 255 bytes.
    return root / (name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest())


def _size(record: JournalEntry) -> int:
    return _HEAD.size + len(record.frame)


def _put(mapped: mmap.mmap, position: int, record: JournalEntry) -> int:
    """Write an entry and return the position after it; the caller has checked that there is room."""
    data = _HEAD.pack(0, *record.id, len(record.frame)) + record.frame
    end = position + len(data)
    mapped[position:end] = data
    mapped[position] = record.kind
    return end


def _create(path: Path, size: int) -> tuple[int, mmap.mmap]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _lock(file)
        # Allocate now, so that a full disk is an error here and not a signal (SIGBUS) when a page is first written.
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
    """Lock the journal of a dead process; return False if its owner lives or another process has it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    stack.callback(os.close, file)
    return _lock(file) and _is_at(file, path)


def _is_at(file: int, path: Path) -> bool:
    """Return whether the open file still has this name: a successor may have removed it, or its owner replaced it."""
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
