"""Verification of overlays without applying them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet import segment
from atoll.cloudlet.base import Report
from atoll.cloudlet.description import ImageDescription
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.fetch import read_segment
from atoll.cloudlet.header import Header, read_table
from atoll.cloudlet.pages import count
from atoll.cloudlet.segment import CHANGED, FROM_BASE, FROM_RESULT, Segment
from atoll.cloudlet.source import Source


def check_overlay(source: Source, header: Header, report: Report, base: ImageDescription | None = None) -> None:
    """Read a whole overlay. Check each segment's digest and form, and that all pages to which the segment refers exist.

    Args:
        source: the overlay, read up to the end of its header.
        header: the overlay's header, whose signature was verified.
        report: called with the progress.
        base: the overlay's base, to check references to its pages too; `None` if the base is not available.

    Raises:
        AtollError: `cloudlet.invalid`: the overlay is damaged; `cloudlet.source` or `cloudlet.unusable`: the overlay can't be read.
    """
    entries, offset = read_table(source.read, header, source.name), header.head_length
    written = [np.zeros(count(part.size), np.bool_) for part in header.result.parts]
    for number, entry in enumerate(entries):
        found = segment.unpack(read_segment(source, number, entry, offset), source.name)
        if not (_exists(found, written) and (base is None or _exists_in_base(found, header, base))):
            raise invalid(source.name, "a segment refers to a page or a part that does not exist", "make the overlay again")
        offset += entry.length
        report("verifying", number + 1, len(entries))
    source.expect_end()


def _exists(found: Segment, written: list[NDArray[np.bool_]]) -> bool:
    """Return whether the pages of a segment, and the sources of its copies from the result, exist; mark its pages in `written`."""
    if found.part >= len(written) or int(found.pages[-1]) >= len(written[found.part]):
        return False
    from_result = found.kinds >= FROM_RESULT
    written[found.part][found.pages[~from_result]] = True
    parts = (found.kinds[from_result] - FROM_RESULT).astype(int)
    sources = found.sources[from_result[found.copies]]
    for number in np.unique(parts).tolist():
        chosen = sources[parts == number]
        if number >= len(written) or int(chosen.max()) >= len(written[number]) or not written[number][chosen].all():
            return False
    written[found.part][found.pages[from_result]] = True
    return True


def _exists_in_base(found: Segment, header: Header, base: ImageDescription) -> bool:
    """Return whether the base has all pages to which a segment refers."""
    if (found.kinds == CHANGED).any() and base.part(header.result.parts[found.part].name) is None:
        return False
    from_base = (found.kinds >= FROM_BASE) & (found.kinds < FROM_RESULT)
    parts = (found.kinds[from_base] - FROM_BASE).astype(int)
    sources = found.sources[from_base[found.copies]]
    sizes = [count(part.size) for part in base.parts]
    return all(number < len(sizes) and int(sources[parts == number].max()) < sizes[number] for number in np.unique(parts).tolist())
