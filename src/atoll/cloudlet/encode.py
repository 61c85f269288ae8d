"""Makes overlays: the pages that a virtual machine adds to a base, as signed segments.

The files are read twice: once to compare and hash, once to compress. Both steps run in several processes; between them, `classify` decides
which pages are sent. Memory is bounded by a few segments for each process and about 100 bytes for each changed page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from blake3 import blake3

from atoll.cloudlet.base import Report, Unchanged, part_size
from atoll.cloudlet.claims import new_file
from atoll.cloudlet.classify import PagePlan, classify
from atoll.cloudlet.compress import Job, compress
from atoll.cloudlet.description import MEMORY, ImageDescription, Part
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.header import MOST_SEGMENTS, Entry, head_length, write_head
from atoll.cloudlet.image import Image, opened, refuse_existing
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.pages import DIGEST, Digests, count, part_root
from atoll.cloudlet.scan import PageChanges, join, scan, split
from atoll.cloudlet.segment import CHANGED, CONTENT, FROM_BASE, FROM_RESULT, ZEROS
from atoll.cloudlet.workers import Workers
from atoll.errors import AtollError

LEVEL = 2
"""Default compression level for zstd. It is faster than level 3, and overlays are equally small."""

_WORK = 16_384  # pages of one piece of work: 64 MiB


@dataclass(frozen=True)
class Task:
    """The description of an overlay that is to be made.

    Attributes:
        base: the directory of the base image.
        parts: the file of each part of the stopped guest.
        target: the file to write.
        level: the compression level for zstd.
        cpu: the CPU model of a guest with memory; `None` means that of the base.
        machine: the hypervisor's machine type; `None` means that of the base.
    """

    base: Path
    parts: Mapping[str, Path]
    target: Path
    level: int = LEVEL
    cpu: str | None = None
    machine: str | None = None


@dataclass(frozen=True)
class EncodedOverlay:
    """A summary of a new overlay.

    Attributes:
        base: the digest of the base.
        result: the description of the image that results from base and overlay.
        length: the length of the overlay in bytes.
        segments: the number of segments.
        pages: the number of pages of each kind: `zeros`, `content`, `changed`, `from_base`, `from_result`.
    """

    base: bytes
    result: ImageDescription
    length: int
    segments: int
    pages: Mapping[str, int]


def make_overlay(task: Task, key: SigningKey, workers: Workers, report: Report) -> EncodedOverlay:
    """Make an overlay from the files of a stopped guest.

    Args:
        task: the base, the guest's files and the target.
        key: the key that signs the overlay.
        workers: the processes that compare and compress.
        report: called with the progress.

    Raises:
        AtollError: `cloudlet.exists`: the target exists; `cloudlet.invalid`: a file's size, a part's name, the CPU model or the machine
            type is not valid; `cloudlet.cpu`: the CPU models of guest and base differ; `cloudlet.changed`: a file was written to meanwhile;
            `state.space`; `cloudlet.unusable`. On an error, nothing is left.
    """
    refuse_existing(task.target)
    sizes = {name: part_size(path) for name, path in sorted(task.parts.items())}
    try:
        with opened(task.base) as base, new_file(task.target) as file, _unchanged(task.parts):
            blank = _describe(task, base.description, {name: bytes(DIGEST) for name in sizes}, sizes)
            blank.check(str(task.target))
            changes = _scan(task, base, workers, report)
            result = _describe(task, base.description, {name: _root(base, name, sizes[name], changes[name]) for name in sizes}, sizes)
            numbers = {part.name: number for number, part in enumerate(result.parts)}
            plans = classify([(numbers[name], changes[name]) for name in changes], [part.list for part in base.parts])
            jobs = [_job(task, base, result, piece) for plan in plans for piece in plan.pieces()]
            if len(jobs) > MOST_SEGMENTS:
                raise invalid(str(task.target), f"{len(jobs)} segments", f"expected at most {MOST_SEGMENTS}: make a new base")
            start = head_length(len(result.parts), len(jobs))
            entries = _write_segments(file, start, jobs, workers, report)
            file.seek(0)
            file.write(write_head(base.description.digest, result, entries, key))
    except OSError as error:
        raise unusable(error.filename or task.target, error) from None
    length = start + sum(entry.length for entry in entries)
    return EncodedOverlay(base.description.digest, result, length, len(entries), _counted(plans))


def _describe(task: Task, base: ImageDescription, roots: Mapping[str, bytes], sizes: Mapping[str, int]) -> ImageDescription:
    """Return the description of the resulting image; refuse a CPU model other than the base's."""
    cpu = (base.cpu if task.cpu is None else task.cpu) if MEMORY in sizes else ""
    if cpu and base.cpu and cpu != base.cpu:
        message = f"{task.base} has memory of the CPU model {base.cpu}: expected a guest with that model, not {cpu}"
        raise AtollError("cloudlet.cpu", message, "boot the guest with the base's CPU model")
    if MEMORY in sizes and not cpu:
        message = f"{task.base} has no memory, and therefore names no CPU model: expected the guest's model"
        raise AtollError("cloudlet.cpu", message, "name the guest's CPU model with --cpu")
    machine = base.machine if task.machine is None else task.machine
    return ImageDescription(tuple(Part(name, sizes[name], roots[name]) for name in sorted(sizes)), cpu, machine)


def _scan(task: Task, base: Image, workers: Workers, report: Report) -> dict[str, PageChanges]:
    """Compare all parts with the base; the memory comes first, as it does in the overlay."""
    names = sorted(task.parts, key=lambda name: (name != MEMORY, name))
    work = [each for name in names for each in split(name, task.parts[name], _file(base, name), _WORK)]
    total, done = sum(each.size for each in work), 0
    found: dict[str, list[PageChanges]] = {name: [] for name in names}
    for each, changes in zip(work, workers.map(scan, work), strict=True):
        found[each.part].append(changes)
        done += each.size
        report("comparing", done, total)
    return {name: join(pieces) for name, pieces in found.items()}


def _file(base: Image, name: str) -> Path | None:
    return base.path / name if base.part(name) else None


def _job(task: Task, base: Image, result: ImageDescription, piece: PagePlan) -> Job:
    name = result.parts[piece.part].name
    return Job(piece, task.parts[name], _file(base, name), task.level)


def _root(base: Image, name: str, size: int, changes: PageChanges) -> bytes:
    """Return the digest of a new part from the base's list and the changed pages."""
    part, pages = base.part(name), count(size)

    def pieces() -> Iterator[bytes]:
        for first in range(0, pages, _WORK):
            end = min(first + _WORK, pages)
            digests: Digests = np.zeros((end - first, DIGEST), np.uint8)
            held = max(0, min(end, part.list.pages if part else 0) - first)
            if part and held:
                digests[:held] = part.list.read(first, held)
            begin, stop = np.searchsorted(changes.pages, (first, end))
            digests[changes.pages[begin:stop] - first] = changes.digests[begin:stop]
            yield digests.tobytes()

    return part_root(size, pieces())


def _write_segments(file: BinaryIO, start: int, jobs: Sequence[Job], workers: Workers, report: Report) -> list[Entry]:
    """Write the segments at the offset `start`, after the room for the head; return the table of segments."""
    entries = []
    file.seek(start)
    for number, data in enumerate(workers.map(compress, jobs), 1):
        file.write(data)
        entries.append(Entry(len(data), blake3(data).digest()))
        report("compressing", number, len(jobs))
    return entries


@contextmanager
def _unchanged(parts: Mapping[str, Path]) -> Iterator[None]:
    """Check that files are not written to while the context lasts."""
    with ExitStack() as stack:
        checks = []
        for path in parts.values():
            file = stack.enter_context(path.open("rb"))
            checks.append(Unchanged(path, file.fileno()))
        yield
        for check in checks:
            check.check()


def _counted(plans: Sequence[PagePlan]) -> dict[str, int]:
    kinds = np.concatenate([plan.kinds for plan in plans])
    copies = kinds & (FROM_BASE | FROM_RESULT)
    return {
        "zeros": int((kinds == ZEROS).sum()),
        "content": int((kinds == CONTENT).sum()),
        "changed": int((kinds == CHANGED).sum()),
        "from_base": int((copies == FROM_BASE).sum()),
        "from_result": int((copies == FROM_RESULT).sum()),
    }
