"""Pages of a part that is too large for one message: the reader fetches them at its own pace.

The sender keeps no state of its readers: a page is named by the part's digest and an offset, and a lost page is requested again. The reader
holds one unfinished part at a time, of at most `MAX_UPDATE_BYTES`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from atoll.mesh.parts import MAX_UPDATE_BYTES, Part
from atoll.mesh.refusals import Refused

PAGE_BYTES = 192 * 1024
WINDOW = 4
"""The number of pages that are sent for one request."""

_KEPT = 2
"""The number of packed parts that the sender keeps for readers that are fetching them."""


class Page(NamedTuple):
    """A piece of a packed part.

    Attributes:
        author: the author of the part.
        base: the base of the part.
        digest: the digest of the packed part.
        offset: the offset of the piece in bytes.
        total: the bytes of the packed part.
        data: the piece.
    """

    author: str
    base: int
    digest: bytes
    offset: int
    total: int
    data: bytes


class PageRequest(NamedTuple):
    """A request for the pages from an offset on; see `Page`."""

    author: str
    base: int
    digest: bytes
    offset: int


class PageSender:
    """The sender's side: packed parts."""

    def __init__(self, part_of: Callable[[str, int], Part | None]) -> None:
        """Start without packed parts.

        Args:
            part_of: returns the part of an author from a base on, or `None`.
        """
        self._part_of = part_of
        self._packed: OrderedDict[bytes, bytes] = OrderedDict()

    def open(self, part: Part, packed: bytes) -> list[Page]:
        """Return the first page of a part."""
        digest = hashlib.sha256(packed).digest()
        self._packed[digest] = packed
        self._packed.move_to_end(digest)
        while len(self._packed) > _KEPT:
            self._packed.popitem(last=False)
        return self._pages(PageRequest(part.author, part.base, digest, 0), packed, 1)

    def turn(self, asked: PageRequest) -> list[Page]:
        """Return the requested pages. A part that has changed meanwhile starts again from its first page.

        Raises:
            Refused: the offset does not exist.
        """
        packed = self._packed.get(asked.digest)
        if packed is None:
            part = self._part_of(asked.author, asked.base)
            return self.open(part, part.pack()) if part else []
        if not 0 <= asked.offset < len(packed):
            raise Refused("a page is requested that does not exist")
        return self._pages(asked, packed, WINDOW)

    @staticmethod
    def _pages(asked: PageRequest, packed: bytes, count: int) -> list[Page]:
        starts = range(asked.offset, len(packed), PAGE_BYTES)[:count]
        return [Page(asked.author, asked.base, asked.digest, start, len(packed), packed[start : start + PAGE_BYTES]) for start in starts]


class PageReader:
    """The reader's side: one unfinished part."""

    def __init__(self) -> None:
        self._of: tuple[str, int, bytes, int] | None = None
        self._data = bytearray()
        self._asked_until = 0

    def take(self, page: Page) -> PageRequest | bytes | None:
        """Add a page to the unfinished part.

        Returns:
            The request for the next pages; the whole packed part, if that was the last page; `None` if there is nothing to do yet.

        Raises:
            Refused: the page is malformed, or the part does not match its digest.
        """
        if not (0 <= page.offset < page.total <= MAX_UPDATE_BYTES and 0 < len(page.data) <= PAGE_BYTES and len(page.digest) == 32):
            raise Refused("a page is malformed")
        of = (page.author, page.base, page.digest, page.total)
        if self._of != of:
            self._of, self._data, self._asked_until = of, bytearray(), 0
        if page.offset == len(self._data) and len(self._data) + len(page.data) <= page.total:
            self._data += page.data
        elif page.offset != 0:
            return None  # a repeated page, or one after a lost page
        else:
            self._asked_until = 0  # offered again: some of the requested pages were lost
        if len(self._data) == page.total:
            return self._close(page.digest)
        if len(self._data) < self._asked_until:
            return None
        self._asked_until = len(self._data) + WINDOW * PAGE_BYTES
        return PageRequest(page.author, page.base, page.digest, len(self._data))

    def _close(self, digest: bytes) -> bytes:
        data, self._of, self._data = bytes(self._data), None, bytearray()
        if hashlib.sha256(data).digest() != digest:
            raise Refused("the pages of a part do not match its digest")
        return data
