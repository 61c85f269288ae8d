"""Synthesis of an image from a base and an overlay, while the overlay arrives.

A second thread fetches and verifies segments. The caller's thread applies them, and copies the base's other pages while it waits. The new
image has a hidden name until it is whole, verified and on the disk. If the transfer is interrupted, the applied segments stay, and the next
command continues after them.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.cloudlet import image, partial, segment
from atoll.cloudlet.applier import Applier
from atoll.cloudlet.base import Report
from atoll.cloudlet.description import MEMORY, ImageDescription
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.fetch import Fetched, fetching
from atoll.cloudlet.header import Entry, Header, read_table
from atoll.cloudlet.image import Image
from atoll.cloudlet.partial import Partial
from atoll.cloudlet.source import Source
from atoll.errors import AtollError


@dataclass(frozen=True)
class Applied:
    """The outcome of `apply`: an image from a base and an overlay.

    Attributes:
        description: the identity of the image.
        length: bytes of the overlay.
        resumed: segments that an interrupted command had applied.
    """

    description: ImageDescription
    length: int
    resumed: int


def apply(source: Source, header: Header, base_path: Path, target: Path, report: Report) -> Applied:
    """Make an image from a base and an overlay.

    Args:
        source: the overlay, read up to the end of its header.
        header: the overlay's header, whose signature was verified.
        base_path: the directory of the base image.
        target: the directory to make, in an existing directory.
        report: called with the progress.

    Raises:
        AtollError: `cloudlet.base`: the overlay was made for another base; `cloudlet.exists`: `target` exists; `cloudlet.busy`: another
            command is making it; `state.space`, `cloudlet.unusable`: a file can't be read or written; after these errors, nothing is left.
            `cloudlet.invalid`: the overlay or the base is damaged; `cloudlet.source`: the overlay ended early, and the applied segments
            stay for the next command.
    """
    image.refuse_existing(target)
    try:
        with image.opened(base_path) as base:
            check_base(header, base.description, base_path, source.name)
            entries = read_table(source.read, header, source.name)
            with partial.opened(target.with_name(f".{target.name}.partial"), header, base) as made:
                resumed = made.applied
                try:
                    _Synthesis(source, header, base, report).fill(made, entries)
                    _finish(made, header, target)
                except OSError:
                    made.discard()  # free the space, because the disk is full
                    raise
    except OSError as error:
        raise unusable(error.filename or target, error) from None
    return Applied(header.result, header.head_length + header.length, resumed)


def check_base(header: Header, base: ImageDescription, path: Path, where: str) -> None:
    """Refuse an overlay of another base.

    Args:
        header: the overlay's header.
        base: the base's description.
        path: the base's directory, for the error.
        where: the overlay's name, for the error.

    Raises:
        AtollError: `cloudlet.base`: the overlay was made for another base.
    """
    if header.base != base.digest:
        message = f"{where} was made for the base {header.base.hex()[:16]}, but {path} is the base {base.digest.hex()[:16]}"
        raise AtollError("cloudlet.base", message, "give the overlay's base with --base")


def check_cpu(header: Header, cpu: str, where: str) -> None:
    """Refuse an overlay with memory of a CPU model other than the machine's.

    Args:
        header: the overlay's header.
        cpu: the CPU model that the machine offers.
        where: the overlay's name, for the error.

    Raises:
        AtollError: `cloudlet.cpu`: the overlay has memory of another CPU model.
    """
    if header.result.part(MEMORY) and header.result.cpu != cpu:
        message = f"{where} has memory of the CPU model {header.result.cpu}, but this machine offers {cpu}"
        raise AtollError("cloudlet.cpu", message, "use an overlay without memory, or a machine that offers the model")


@dataclass(frozen=True)
class _Synthesis:
    source: Source
    header: Header
    base: Image
    report: Report

    def fill(self, made: Partial, entries: Sequence[Entry]) -> None:
        """Apply the segments that are missing, and copy the rest of the base."""
        first = made.applied
        offset = self.header.head_length + sum(entry.length for entry in entries[:first])
        if first:
            self.source.skip_to(offset)
        with fetching(self.source, entries, first, offset) as fetched:
            try:
                self._apply_all(made, fetched)
            except (AtollError, KeyboardInterrupt):
                made.save()
                raise
        while made.copy_some():
            pass

    def _apply_all(self, made: Partial, fetched: Fetched) -> None:
        """Apply segments as they arrive, and copy pages of the base while none has arrived."""
        applier, copying = Applier(self.base, made, self.source.name), True
        while True:
            try:
                data = fetched.next(wait=not copying)
            except queue.Empty:
                copying = made.copy_some()
                continue
            if data is None:
                return
            applier.apply(segment.unpack(data, self.source.name))
            made.applied_one()
            self.report("applying", made.applied, self.header.segments)


def _finish(made: Partial, header: Header, target: Path) -> None:
    """Compare the result with its signed description, and rename it to `target`."""
    for part, output in zip(header.result.parts, made.outputs, strict=True):
        if output.list.root() != part.root:
            made.discard()
            raise invalid(str(target), f"the digest of the part {part.name} differs from the signed one", "make the overlay again")
    image.finish(made.directory, header.result, target)
