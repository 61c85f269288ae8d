"""Makes base images from files (a disk, and the memory and device state of a stopped guest), and checks the content of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet import image, page_list, sparse
from atoll.cloudlet.claims import new_directory
from atoll.cloudlet.description import MOST_BYTES, ImageDescription, Part
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.guarded import open_regular
from atoll.cloudlet.page_list import SUFFIX
from atoll.cloudlet.pages import PAGE, ZERO_DIGEST, Numbers, different, hash_pages
from atoll.errors import AtollError

Report = Callable[[str, int, int], None]
"""A function that is called with the progress of a long step: the step's name, the work done, and the total work in the same unit."""

_CHUNK = 1024  # pages: 4 MiB


def make_base(parts: Mapping[str, Path], target: Path, cpu: str, machine: str, report: Report) -> ImageDescription:
    """Make an image from copies of files, and return its description.

    Args:
        parts: the file of each part, by the part's name.
        target: the directory to make, in an existing directory.
        cpu: the CPU model of the guest; empty if the image has no memory.
        machine: the hypervisor's machine type; may be empty.
        report: called with the progress.

    Returns:
        The description of the image.

    Raises:
        AtollError: `cloudlet.exists`: the directory exists; `cloudlet.invalid`: a file's size, a part's name, `cpu` or `machine` is not
            valid; `cloudlet.changed`: a file was written to meanwhile; `state.space`; `cloudlet.unusable`. On an error, nothing is left.
    """
    image.refuse_existing(target)
    sizes = {name: part_size(path) for name, path in parts.items()}
    ImageDescription(tuple(Part(name, size, bytes(32)) for name, size in sorted(sizes.items())), cpu, machine).check(str(target))
    try:
        with new_directory(target) as made:
            described: list[Part] = []
            for name in sorted(parts):
                done = sum(part.size for part in described)
                progress = partial(_report_from, report, done, sum(sizes.values()))
                described.append(Part(name, sizes[name], _copy(parts[name], made / name, sizes[name], progress)))
            description = ImageDescription(tuple(described), cpu, machine)
            image.finish(made, description, target)
    except OSError as error:
        raise unusable(error.filename or target, error) from None
    return description


def part_size(path: Path) -> int:
    """Return the size in bytes of a file that is to be a part.

    Raises:
        AtollError: `cloudlet.invalid`: the file is empty or too large; `cloudlet.unusable`: the file can't be read, or is neither a file
            nor a block device.
    """
    try:
        with os.fdopen(open_regular(path, device=True), "rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise unusable(path, error) from None
    if not 0 < size <= MOST_BYTES:
        raise invalid(str(path), f"the file has {size} bytes", "expected 1 byte to 16 TiB")
    return size


class Unchanged:
    """A check that a file is not written to while it is read.

    Args:
        path: the file's name, for the error.
        descriptor: the open file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._before = self._state()

    def check(self) -> None:
        """Check that the file still has the size and the time of change that it had when this object was created.

        Raises:
            AtollError: `cloudlet.changed`: the file was written to.
        """
        if self._state() != self._before:
            raise AtollError("cloudlet.changed", f"{self._path} was written to while it was read", "stop the guest first")

    def _state(self) -> tuple[int, int]:
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns


def _report_from(report: Report, before: int, total: int, done: int) -> None:
    report("copying", before + done, total)


def _copy(path: Path, target: Path, size: int, report: Callable[[int], None]) -> bytes:
    """Copy the file of a part with its holes, write the list of its pages' digests, and return the part's digest."""
    source = open_regular(path, device=True)
    try:
        unchanged = Unchanged(path, source)
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(copy, size)
            list_ = page_list.create(target.with_name(target.name + SUFFIX), size)
            try:
                for first, end in sparse.chunks(sparse.union((source, size)), _CHUNK):
                    _copy_chunk(source, copy, list_, first, end)
                    report(min(end * PAGE, size))
                root = list_.root()
            finally:
                list_.close()
        finally:
            os.close(copy)
        unchanged.check()
    finally:
        os.close(source)
    return root


def _copy_chunk(source: int, copy: int, list_: page_list.PageList, first: int, end: int) -> None:
    content = sparse.read(source, first, end - first)
    filled = np.flatnonzero(content.any(axis=1))
    numbers: Numbers = (filled + first).astype(np.uint32)
    sparse.write(copy, numbers, content[filled], list_.size)
    list_.write(numbers, hash_pages(content[filled]))


def check_content(opened: image.Image, report: Report) -> None:
    """Read the whole content of an image, and compare it with its digests.

    Args:
        opened: the image.
        report: called with the progress.

    Raises:
        AtollError: `cloudlet.invalid`: a page differs from its digest; the message names the part and the page's offset in bytes.
    """
    done = 0
    for part in opened.parts:
        next_page = 0
        for first, end in [*sparse.chunks(sparse.union((part.descriptor, part.size)), _CHUNK), (part.list.pages, part.list.pages)]:
            _check_hole(opened, part, next_page, first)
            if first < end:
                found, expected = hash_pages(sparse.read(part.descriptor, first, end - first)), part.list.read(first, end - first)
                _compare(opened, part, first, different(found, expected))
            report("checking", done + min(end * PAGE, part.size), opened.description.size)
            next_page = max(next_page, end)
        done += part.size


def _check_hole(opened: image.Image, part: image.OpenPart, first: int, end: int) -> None:
    while first < end:
        pages = min(32_768, end - first)
        _compare(opened, part, first, different(part.list.read(first, pages), ZERO_DIGEST))
        first += pages


def _compare(opened: image.Image, part: image.OpenPart, first: int, wrong: NDArray[np.bool_]) -> None:
    if wrong.any():
        place = (first + int(np.argmax(wrong))) * PAGE
        raise invalid(f"{opened.path / part.name}", f"the content is damaged at byte {place}", "make the image again, or fetch it again")
