"""Deduplication: decides which changed pages are zeros, are in the base, occur earlier in the overlay, or must be sent.

The module compares arrays of digests, not pages. The base's lists are read in pieces, and each piece is looked up among the changed pages.
So memory grows with the number of changed pages (about 100 bytes for each), not with the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.cloudlet.page_list import PageList
from atoll.cloudlet.pages import DIGEST, Digests, Numbers
from atoll.cloudlet.scan import PageChanges
from atoll.cloudlet.segment import CHANGED, CONTENT, FROM_BASE, FROM_RESULT, MOST_CONTENT, MOST_PAGES, ZEROS, is_filled


@dataclass(frozen=True)
class PagePlan:
    """The changed pages of a part, and the way in which each page gets its content.

    Attributes:
        part: the number of the part in the result.
        kinds: the kind of each page, as in a segment.
        pages: the numbers of the pages, in order.
        sources: for each page, the number of the page from which it is copied; 0 if it is not a copy.
    """

    part: int
    kinds: NDArray[np.uint8]
    pages: Numbers
    sources: Numbers

    def pieces(self) -> Iterator[PagePlan]:
        """Yield the plan in pieces of one segment each."""
        content = np.cumsum(is_filled(self.kinds))
        start = 0
        while start < len(self.pages):
            before = int(content[start - 1]) if start else 0
            end = min(int(np.searchsorted(content, before + MOST_CONTENT, side="right")), start + MOST_PAGES)
            yield PagePlan(self.part, self.kinds[start:end], self.pages[start:end], self.sources[start:end])
            start = end


def classify(changes: Sequence[tuple[int, PageChanges]], base: Sequence[PageList]) -> list[PagePlan]:
    """Decide how each changed page gets its content.

    Args:
        changes: for each part, in the order of the overlay, the part's number in the result and its changed pages.
        base: the lists of the base's parts.

    Returns:
        A plan for each part, in the same order.
    """
    digests = np.concatenate([each.digests for _, each in changes]) if changes else np.empty((0, DIGEST), np.uint8)
    pages = np.concatenate([each.pages for _, each in changes]) if changes else np.empty(0, np.uint32)
    alike = np.concatenate([each.alike for _, each in changes]) if changes else np.empty(0, np.bool_)
    parts = np.repeat(np.array([part for part, _ in changes], np.uint8), [len(each.pages) for _, each in changes])
    kinds = np.where(alike, CHANGED, CONTENT).astype(np.uint8)
    sources = np.zeros(len(pages), np.uint32)

    groups = _Groups.of(digests)
    first = groups.first[groups.group]
    repeated = first != np.arange(len(pages))
    kinds[repeated] = FROM_RESULT + parts[first[repeated]]
    sources[repeated] = pages[first[repeated]]
    held, places = groups.find(base)
    in_base = held[groups.group] > 0
    kinds[in_base], sources[in_base] = held[groups.group][in_base], places[groups.group][in_base]
    zeros = ~digests.any(axis=1)
    kinds[zeros], sources[zeros] = ZEROS, 0

    ends = np.cumsum([len(each.pages) for _, each in changes])
    return [
        PagePlan(part, kinds[end - len(each.pages) : end], pages[end - len(each.pages) : end], sources[end - len(each.pages) : end])
        for (part, each), end in zip(changes, ends.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class _Groups:
    """Pages in groups of the same digest.

    Attributes:
        digests: the digest of each group, sorted by their first 8 bytes.
        first: for each group, the index of its first page.
        group: for each page, the index of its group.
    """

    digests: Digests
    first: NDArray[np.intp]
    group: NDArray[np.intp]

    @classmethod
    def of(cls, digests: Digests) -> _Groups:
        """Group pages by their digests."""
        places = np.arange(len(digests))
        order = np.lexsort((places, _keys(digests)))
        arranged = digests[order]
        begins = np.concatenate((np.ones(min(1, len(order)), np.bool_), (arranged[1:] != arranged[:-1]).any(axis=1)))
        group = np.empty(len(order), np.intp)
        group[order] = np.cumsum(begins) - 1
        return cls(arranged[begins], order[begins], group)

    def find(self, base: Sequence[PageList]) -> tuple[NDArray[np.uint8], Numbers]:
        """Look the groups' digests up in a base.

        Returns:
            For each group, the kind of a copy from the base, or 0 if the base lacks the page; and the number of the base's page.
        """
        kinds, places = np.zeros(len(self.digests), np.uint8), np.zeros(len(self.digests), np.uint32)
        keys = _keys(self.digests)
        for number, list_ in enumerate(base):
            for start, piece in list_.pieces() if len(keys) else ():
                wanted = _keys(piece)
                at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                near = np.flatnonzero(keys[at] == wanted)
                near = near[(self.digests[at[near]] == piece[near]).all(axis=1) & (kinds[at[near]] == 0)]
                kinds[at[near]], places[at[near]] = FROM_BASE + number, start + near
        return kinds, places


def _keys(digests: Digests) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each digest, as a number."""
    keys: NDArray[np.uint64] = np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0]
    return keys
