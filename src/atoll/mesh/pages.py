"""Parts that are too large for one message: the reader fetches them page by page, at its own pace.

The sender keeps nothing of who has fetched how far: a page is named by the part's digest and an offset, and a page that was lost is asked
for again. The reader holds one unfinished part at a time, of at most `MAX_UPDATE_BYTES`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from atoll.mesh.parts import MAX_UPDATE_BYTES, Part
from atoll.mesh.record import Refused

PAGE_BYTES = 192 * 1024
WINDOW = 4
"""Pages that are sent for one request."""

_KEPT = 2
"""Packed parts that the sender keeps for readers that are fetching them."""


class Page(NamedTuple):
    """A piece of a packed part.

    Attributes:
        author: of the part.
        base: of the part.
        digest: of the packed part.
        offset: of the piece.
        total: bytes of the packed part.
        data: the piece.
    """

    author: str
    base: int
    digest: bytes
    offset: int
    total: int
    data: bytes


class Next(NamedTuple):
    """A request for the pages from an offset on; see `Page`."""

    author: str
    base: int
    digest: bytes
    offset: int


class Shelf:
    """The sender's side: packed parts."""

    def __init__(self, part_of: Callable[[str, int], Part | None]) -> None:
        """An empty shelf.

        Args:
            part_of: the part of an author from a base on; `None` if there is none.
        """
        self._part_of = part_of
        self._packed: OrderedDict[bytes, bytes] = OrderedDict()

    def open(self, part: Part, packed: bytes) -> list[Page]:
        """The first page of a part."""
        digest = hashlib.sha256(packed).digest()
        self._packed[digest] = packed
        self._packed.move_to_end(digest)
        while len(self._packed) > _KEPT:
            self._packed.popitem(last=False)
        return self._pages(Next(part.author, part.base, digest, 0), packed, 1)

    def turn(self, asked: Next) -> list[Page]:
        """The pages that a reader asks for.

        A part that has changed meanwhile is begun anew.

        Raises:
            Refused: the offset is none.
        """
        packed = self._packed.get(asked.digest)
        if packed is None:
            part = self._part_of(asked.author, asked.base)
            return self.open(part, part.pack()) if part else []
        if not 0 <= asked.offset < len(packed):
            raise Refused("a page is asked for that is not there")
        return self._pages(asked, packed, WINDOW)

    @staticmethod
    def _pages(asked: Next, packed: bytes, most: int) -> list[Page]:
        starts = range(asked.offset, len(packed), PAGE_BYTES)[:most]
        return [Page(asked.author, asked.base, asked.digest, start, len(packed), packed[start : start + PAGE_BYTES]) for start in starts]


class Reading:
    """The reader's side: one unfinished part."""

    def __init__(self) -> None:
        self._of: tuple[str, int, bytes, int] | None = None
        self._data = bytearray()
        self._asked_until = 0

    def take(self, page: Page) -> Next | bytes | None:
        """Put a page to those before it.

        Returns:
            The request for the next pages; the whole packed part, if that was the last page; `None` if there is nothing to do yet.

        Raises:
            Refused: the page is malformed, or the part is not what its digest says.
        """
        if not (0 <= page.offset < page.total <= MAX_UPDATE_BYTES and 0 < len(page.data) <= PAGE_BYTES and len(page.digest) == 32):
            raise Refused("a page is malformed")
        of = (page.author, page.base, page.digest, page.total)
        if self._of != of:
            self._of, self._data, self._asked_until = of, bytearray(), 0
        if page.offset == len(self._data) and len(self._data) + len(page.data) <= page.total:
            self._data += page.data
        elif page.offset != 0:
            return None  # it came twice, or after one that was lost
        else:
            self._asked_until = 0  # offered anew: the pages that were asked for did not all come
        if len(self._data) == page.total:
            return self._close(page.digest)
        if len(self._data) < self._asked_until:
            return None
        self._asked_until = len(self._data) + WINDOW * PAGE_BYTES
        return Next(page.author, page.base, page.digest, len(self._data))

    def _close(self, digest: bytes) -> bytes:
        data, self._of, self._data = bytes(self._data), None, bytearray()
        if hashlib.sha256(data).digest() != digest:
            raise Refused("the pages of a part do not make what they should")
        return data
