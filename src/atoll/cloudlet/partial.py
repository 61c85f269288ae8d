"""An unfinished image: its files in a directory with a hidden name, and a state file with which the next command continues.

    .NAME.partial/disk, disk.pages, …   the parts, as far as they are written
                  state                 the overlay, and the number of its segments that are applied

The state:

    offset  bytes  field
         0      8  "ATOLLPRT"
         8      2  version, u16: 1
        10      2  0
        12      4  number of segments that are applied and on the disk, u32
        16     32  root of the overlay's Merkle tree
        48     32  digest of the result
        80     32  BLAKE3 of everything before
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from atoll.cloudlet import page_list, sparse
from atoll.cloudlet.claims import claimed_directory
from atoll.cloudlet.description import Part
from atoll.cloudlet.guarded import open_regular, require_own
from atoll.cloudlet.header import Header
from atoll.cloudlet.image import Image, OpenPart
from atoll.cloudlet.page_list import SUFFIX, PageList
from atoll.errors import AtollError
from atoll.files import flush

EVERY_S = 5.0
"""Seconds between two flushes: if the command is killed or the machine fails, only the segments of these seconds are lost."""

_STATE = struct.Struct("<8sHHI32s32s")
_MAGIC = b"ATOLLPRT"
_CHUNK = 256  # pages: 1 MiB


@dataclass
class Output:
    """A part that is being made.

    Attributes:
        descriptor: the descriptor of the part's file, open for reading and writing.
        list: the digests of the part's pages.
        base: the same part of the base; `None` if the base has no such part.
        written: a mask of the pages that the overlay has written.
    """

    descriptor: int
    list: PageList
    base: OpenPart | None
    written: NDArray[np.bool_]


class Partial:
    """An open partial image.

    Args:
        directory: the image's directory.
        header: the header of the overlay.
        outputs: the image's parts, in the order of the description.
        applied: the number of segments that earlier commands have applied.
    """

    def __init__(self, directory: Path, header: Header, outputs: list[Output], applied: int) -> None:
        self.directory = directory
        self.outputs = outputs
        self.applied = applied
        self._header = header
        self._saved = applied
        self._due = time.monotonic() + EVERY_S
        self._chunks = self._unshared()

    def copy_some(self) -> bool:
        """Copy the next 1 MiB of the base, except pages that the overlay has written; return False if nothing is left to copy."""
        for output, base, first, end in self._chunks:
            last = min(end, output.list.pages)
            numbers = (np.flatnonzero(~output.written[first:last]) + first).astype(np.uint32)
            if len(numbers):
                content = sparse.pick(base.descriptor, numbers)
                filled = content.any(axis=1)
                sparse.write(output.descriptor, numbers[filled], content[filled], output.list.size)
                return True
        return False

    def _unshared(self) -> Iterator[tuple[Output, OpenPart, int, int]]:
        for output in self.outputs:
            if output.base is not None:
                ranges = sparse.union((output.base.descriptor, min(output.base.size, output.list.size)))
                for first, end in sparse.chunks(ranges, _CHUNK):
                    yield output, output.base, first, end

    def applied_one(self) -> None:
        """Count an applied segment, and save if the last save was at least `EVERY_S` seconds ago."""
        self.applied += 1
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Flush the parts, and write the state.

        Raises:
            OSError: the disk fails.
        """
        if self.applied > self._saved:
            for output in self.outputs:
                os.fsync(output.descriptor)
                output.list.flush()
            write_state(self.directory, self._header, self.applied)
            self._saved = self.applied
        self._due = time.monotonic() + EVERY_S

    def discard(self) -> None:
        """Delete the partial image."""
        shutil.rmtree(self.directory, ignore_errors=True)


def write_state(directory: Path, header: Header, applied: int) -> None:
    """Replace the state of a partial image.

    Raises:
        OSError: the disk fails.
    """
    data = _STATE.pack(_MAGIC, 1, 0, applied, header.root, header.result.digest)
    new = directory / "state.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data + blake3(data).digest())
    flush(new)
    new.replace(directory / "state")
    flush(directory)


def read_state(directory: Path, header: Header) -> int | None:
    """Return the number of segments that are applied; `None` if the partial image is damaged, or belongs to another overlay or user."""
    path = directory / "state"
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            require_own(path, file.fileno())
            data = file.read(_STATE.size + 33)
    except (OSError, AtollError):
        return None
    head, digest = data[: _STATE.size], data[_STATE.size :]
    if len(data) != _STATE.size + 32 or blake3(head).digest() != digest:
        return None
    magic, version, zero, applied, root, result = _STATE.unpack(head)
    same = (magic, version, zero, root, result) == (_MAGIC, 1, 0, header.root, header.result.digest)
    return int(applied) if same and applied <= header.segments else None


@contextmanager
def opened(directory: Path, header: Header, base: Image) -> Iterator[Partial]:
    """Make a partial image, or open the one that an interrupted command has left, and yield it.

    Args:
        directory: the image's directory.
        header: the header of the overlay.
        base: the base image.

    Raises:
        AtollError: `cloudlet.busy`: another command is making the image; `cloudlet.unusable`: another user has made the directory, or can
            write to it.
        OSError: the disk fails. If it fails before the context begins, nothing is left.
    """
    with ExitStack() as stack:
        stack.enter_context(claimed_directory(directory))
        applied, outputs = read_state(directory, header), None
        if applied is not None:
            with suppress(OSError, AtollError):
                outputs = [_reopen(directory, part, base, stack) for part in header.result.parts]
        if outputs is None:
            applied = 0
            try:
                outputs = _create_all(directory, header, base, stack)
            except (OSError, AtollError):
                shutil.rmtree(directory, ignore_errors=True)  # free the space, because the disk is full
                raise
        yield Partial(directory, header, outputs, applied or 0)


def _create_all(directory: Path, header: Header, base: Image, stack: ExitStack) -> list[Output]:
    for path in directory.iterdir():
        path.unlink()
    return [_create(directory, part, base, stack) for part in header.result.parts]


def _create(directory: Path, part: Part, base: Image, stack: ExitStack) -> Output:
    descriptor = os.open(directory / part.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, descriptor)
    held = base.part(part.name)
    list_ = page_list.create(directory / f"{part.name}{SUFFIX}", part.size)
    stack.callback(list_.close)
    if held is not None:
        for first, digests in held.list.pieces():
            kept = digests[: max(0, list_.pages - first)]
            if kept.any():
                list_.write(np.arange(first, first + len(kept), dtype=np.uint32), kept)
    output = Output(descriptor, list_, held, np.zeros(list_.pages, np.bool_))
    if held is not None and sparse.clone(held.descriptor, descriptor):
        output.written[:] = True  # the whole base was cloned, so nothing is left to copy
    os.ftruncate(descriptor, part.size)
    return output


def _reopen(directory: Path, part: Part, base: Image, stack: ExitStack) -> Output:
    path = directory / part.name
    descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
    stack.callback(os.close, descriptor)
    require_own(path, descriptor)
    held = base.part(part.name)
    list_ = page_list.load(directory / f"{part.name}{SUFFIX}", part.size, writable=True)
    stack.callback(list_.close)
    written = np.ones(list_.pages, np.bool_)
    for first, digests in list_.pieces():
        old = np.zeros_like(digests)
        if held is not None and first < held.list.pages:
            count = min(len(digests), held.list.pages - first)
            old[:count] = held.list.read(first, count)
        written[first : first + len(digests)] = (digests != old).any(axis=1)
    return Output(descriptor, list_, held, written)
