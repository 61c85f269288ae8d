"""Application of an overlay's segments to a partial image: each page is checked, written, and entered into the part's list of digests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet import sparse
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.image import Image, OpenPart
from atoll.cloudlet.pages import DIGEST, PAGE, Digests, Numbers, Pages, different, hash_pages
from atoll.cloudlet.partial import Partial
from atoll.cloudlet.segment import CHANGED, FROM_BASE, FROM_RESULT, ZEROS, Segment
from atoll.errors import AtollError


class Applier:
    """Applies segments to a partial image.

    Args:
        base: the base image.
        made: the partial image.
        where: the overlay's name, for errors.
    """

    def __init__(self, base: Image, made: Partial, where: str) -> None:
        self._base = base
        self._made = made
        self._where = where
        self._left = sum(output.list.pages for output in made.outputs)

    def apply(self, found: Segment) -> None:
        """Write the pages of a segment, and their digests.

        Each page of the result may occur in only one segment, so that a small overlay can't cause more writes than its result has pages.

        Raises:
            AtollError: `cloudlet.invalid`: the segment refers to a part or a page that does not exist, the segments name more pages than
                the result has, or a page of the base is damaged.
            OSError: a file can't be read or written.
        """
        self._left -= len(found.pages)
        if self._left < 0:
            raise invalid(self._where, "the segments write more pages than the result has", "make the overlay again")
        if found.part >= len(self._made.outputs):
            raise self._malformed()
        output = self._made.outputs[found.part]
        if int(found.pages[-1]) >= output.list.pages:
            raise self._malformed()
        self._write_zeros(found)
        self._write_content(found, output.base)
        self._copy_from_base(found)
        self._copy_from_result(found)

    def _write_zeros(self, found: Segment) -> None:
        chosen = found.kinds == ZEROS
        if chosen.any():
            count = int(chosen.sum())
            self._write(found, chosen, np.zeros((count, PAGE // 8), np.uint64), np.zeros((count, DIGEST), np.uint8))

    def _write_content(self, found: Segment, base: OpenPart | None) -> None:
        filled, changed, content = found.filled, found.kinds == CHANGED, found.content
        if changed.any():
            if base is None:
                raise self._malformed()
            content = content.copy()
            content[changed[filled]] ^= self._of_base(base, found.pages[changed], beyond=True)[0]
        if len(content):
            self._write(found, filled, content, hash_pages(content))

    def _copy_from_base(self, found: Segment) -> None:
        for number, part in enumerate(self._base.parts):
            chosen = found.kinds == FROM_BASE + number
            if chosen.any():
                self._write(found, chosen, *self._of_base(part, self._sources(found, chosen), beyond=False))
        if (found.kinds[(found.kinds & FROM_BASE) > 0] >= FROM_BASE + len(self._base.parts)).any():
            raise self._malformed()

    def _copy_from_result(self, found: Segment) -> None:
        """Copy pages of the result that this segment or an earlier one has written. All sources are read before a page is written."""
        copies = []
        for number, output in enumerate(self._made.outputs):
            chosen = found.kinds == FROM_RESULT + number
            if chosen.any():
                sources = self._sources(found, chosen)
                if int(sources.max()) >= output.list.pages or not output.written[sources].all():
                    raise self._malformed()
                copies.append((chosen, sparse.pick(output.descriptor, sources), output.list.pick(sources)))
        if (found.kinds >= FROM_RESULT + len(self._made.outputs)).any():
            raise self._malformed()
        for chosen, pages, digests in copies:
            self._write(found, chosen, pages, digests)

    def _of_base(self, part: OpenPart, numbers: Numbers, *, beyond: bool) -> tuple[Pages, Digests]:
        """Read pages of the base, and compare them with their digests.

        Args:
            part: the part.
            numbers: the numbers of the pages.
            beyond: whether `numbers` may contain pages after the end of the part, which are read as zeros.
        """
        inside = numbers < part.list.pages
        if not (beyond or inside.all()):
            raise self._malformed()
        pages, digests = sparse.pick(part.descriptor, numbers), np.zeros((len(numbers), DIGEST), np.uint8)
        digests[inside] = part.list.pick(numbers[inside])
        wrong = different(hash_pages(pages), digests)
        if wrong.any():
            place = int(numbers[np.argmax(wrong)]) * PAGE
            raise invalid(
                str(self._base.path / part.name), f"the content is damaged at byte {place}", "make the base again, or fetch it again"
            )
        return pages, digests

    def _sources(self, found: Segment, chosen: NDArray[np.bool_]) -> Numbers:
        return found.sources[chosen[found.copies]]

    def _write(self, found: Segment, chosen: NDArray[np.bool_], pages: Pages, digests: Digests) -> None:
        output, numbers = self._made.outputs[found.part], found.pages[chosen]
        sparse.write(output.descriptor, numbers, pages, output.list.size)
        output.list.write(numbers, digests)
        output.written[numbers] = True

    def _malformed(self) -> AtollError:
        return invalid(self._where, "a segment refers to a page or a part that does not exist", "make the overlay again")
