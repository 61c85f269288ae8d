"""Segments of an overlay: up to 1 MiB of pages, compressed separately, so that each can be verified, applied and fetched again by itself.

    offset  bytes  field
         0      1  number of the result's part that the segment changes, u8
         1      1  codec, u8: 0 none, 1 zstd (one frame)
         2      2  0
         4      4  n, number of pages, u32: 1 to 4,096
         8      4  c, number of pages with content, u32: at most 256
        12      4  s, number of copies, u32: at most n
        16         body, compressed with the codec

The body:

         n  kind of each page, u8
        4n  number of each page, minus that of the page before, u32; the first page's number is stored as it is
        4s  for each copy the number of its source, minus the source of the copy before, minus 1, modulo 2^32, u32; the first as it is
     4096c  content of each page of kind 1 or 2

Kinds: 0 zeros; 1 content; 2 content XOR the same page of the same part of the base; 16 + p copy from part p of the base; 32 + p copy from
part p of the result. The source of a copy from the result is in this segment or in an earlier one, and must not itself be a copy from the
result. Pages of a segment are in order, and no page occurs in two segments.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
import zstandard
from numpy.typing import NDArray

from atoll.cloudlet.description import MOST_PARTS
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.pages import PAGE, Numbers, Pages, as_pages

ZEROS, CONTENT, CHANGED = 0, 1, 2
"""Kinds of pages that are not copies of other pages."""

FROM_BASE, FROM_RESULT = 16, 32
"""Kinds of copies. In a segment, the number of the part that holds the source page is added to the kind."""

MOST_PAGES = 4096
"""Greatest number of pages of a segment."""

MOST_CONTENT = 256
"""Greatest number of pages with content in a segment: 1 MiB."""

_HEADER = struct.Struct("<BBHIII")
_NONE, _ZSTD = 0, 1
_LARGEST_BODY = MOST_PAGES * 9 + MOST_CONTENT * PAGE

LONGEST = _HEADER.size + _LARGEST_BODY
"""Greatest length of a segment in bytes. A segment that zstd would make longer is stored without compression."""

SHORTEST = _HEADER.size + 5
"""Least length of a segment in bytes."""

_WINDOW = 1 << 21  # bytes, more than the longest body


@dataclass(frozen=True)
class Segment:
    """The content of a segment.

    Attributes:
        part: the number of the result's part that the segment changes.
        kinds: the kind of each page.
        pages: the number of each page, in order.
        sources: for each copy the number of the source page.
        content: the pages of the kinds `CONTENT` and `CHANGED`, in order.
    """

    part: int
    kinds: NDArray[np.uint8]
    pages: Numbers
    sources: Numbers
    content: Pages

    @property
    def copies(self) -> NDArray[np.bool_]:
        """A mask of the pages that are copies of other pages."""
        return self.kinds >= FROM_BASE

    @property
    def filled(self) -> NDArray[np.bool_]:
        """A mask of the pages that have content in the segment."""
        return is_filled(self.kinds)


def is_filled(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a mask of the kinds that have content in the segment."""
    found: NDArray[np.bool_] = np.logical_or(kinds == CONTENT, kinds == CHANGED)
    return found


def pack(segment: Segment, level: int) -> bytes:
    """Return a segment as bytes.

    Args:
        segment: the content of the segment.
        level: the compression level for zstd.
    """
    gaps = np.diff(segment.pages, prepend=np.uint32(0)).astype("<u4")
    steps = (np.diff(segment.sources, prepend=np.uint32(0)) - np.uint32(1)).astype("<u4")
    if len(steps):
        steps[0] = segment.sources[0]
    body = b"".join((segment.kinds.tobytes(), gaps.tobytes(), steps.tobytes(), segment.content.astype("<u8", copy=False).tobytes()))
    packed = _compressor(level).compress(body)
    codec, body = (_ZSTD, packed) if len(packed) < len(body) else (_NONE, body)
    return _HEADER.pack(segment.part, codec, 0, len(segment.pages), len(segment.content), len(segment.sources)) + body


def unpack(data: bytes, where: str) -> Segment:
    """Parse a segment. Whatever `data` contains, parsing needs at most `LONGEST` bytes of memory.

    Args:
        data: exactly the segment's bytes.
        where: the segment's name, for errors.

    Raises:
        AtollError: `cloudlet.invalid`: the segment is malformed.
    """
    if not SHORTEST <= len(data) <= LONGEST:
        raise invalid(where, f"a segment has {len(data)} bytes", f"expected {SHORTEST} to {LONGEST}")
    part, codec, zero, pages, contents, copies = _HEADER.unpack_from(data)
    if part >= MOST_PARTS or codec > _ZSTD or zero or not 1 <= pages <= MOST_PAGES or contents > min(pages, MOST_CONTENT) or copies > pages:
        raise invalid(where, "a malformed segment", "make the overlay again")
    length = 5 * pages + 4 * copies + PAGE * contents
    body = memoryview(data)[_HEADER.size :]
    if codec == _ZSTD:
        body = memoryview(_decompress(body, length, where))
    if len(body) != length:
        raise invalid(where, f"a segment has {len(body)} bytes of content", f"expected {length}")
    return _parse(part, body, (pages, contents, copies), where)


def _parse(part: int, body: memoryview, counts: tuple[int, int, int], where: str) -> Segment:
    """Parse the body of a segment, and check that its fields agree."""
    pages, contents, copies = counts
    kinds = np.frombuffer(body[:pages], dtype=np.uint8)
    gaps = np.frombuffer(body[pages : 5 * pages], dtype="<u4")
    steps = np.frombuffer(body[5 * pages : 5 * pages + 4 * copies], dtype="<u4")
    numbers = np.cumsum(gaps, dtype=np.uint64)
    sources = np.cumsum(steps, dtype=np.uint64) + np.arange(copies, dtype=np.uint64)
    segment = Segment(part, kinds, numbers.astype(np.uint32), sources.astype(np.uint32), as_pages(body[5 * pages + 4 * copies :]))
    ordered = bool((gaps[1:] > 0).all()) and int(numbers[-1]) < 1 << 32
    known = (kinds <= CHANGED) | (kinds - FROM_BASE < MOST_PARTS) | (kinds - FROM_RESULT < MOST_PARTS)
    agreed = int(segment.copies.sum()) == copies and int(segment.filled.sum()) == contents
    if not (ordered and bool(known.all()) and agreed):
        raise invalid(where, "a malformed segment", "make the overlay again")
    return segment


@cache
def _compressor(level: int) -> zstandard.ZstdCompressor:
    """Return the compressor of this process for a level; its tables are allocated once."""
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)


@cache
def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW)


def _decompress(data: memoryview, length: int, where: str) -> bytes:
    """Return the content of a zstd frame, whose size the caller knows."""
    with suppress(zstandard.ZstdError):
        if zstandard.get_frame_parameters(data).content_size == length:  # otherwise zstd would allocate any size that the frame claims
            return _decompressor().decompress(data, max_output_size=length, read_across_frames=False, allow_extra_data=False)
    raise invalid(where, "a segment that can't be decompressed", "make the overlay again")
