"""Segments of an overlay, fetched and verified by a thread before they are needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from blake3 import blake3

from atoll.cloudlet.failures import invalid
from atoll.cloudlet.header import Entry
from atoll.cloudlet.source import Source

AHEAD = 4
"""Number of segments that are fetched before they are needed; 5 MiB if all have the greatest length."""

_REREADS = 2


def read_segment(source: Source, number: int, entry: Entry, offset: int) -> bytes:
    """Read a segment, and check its digest; if it is damaged, read it once more from a source that may return other bytes then.

    Args:
        source: the overlay, read up to the segment.
        number: the segment's index in the table, for errors.
        entry: the segment's entry in the table.
        offset: the offset of the segment's first byte in the overlay.

    Raises:
        AtollError: `cloudlet.invalid`: the segment is damaged; `cloudlet.source` or `cloudlet.unusable`: the source failed.
    """
    for _ in range(1 + _REREADS):
        data = source.read(entry.length)
        if blake3(data).digest() == entry.digest:
            return data
        if not source.reread(offset):
            break
    found = f"segment {number} of the overlay is damaged, at bytes {offset} to {offset + entry.length - 1}"
    raise invalid(source.name, found, "fetch the overlay again; segments that were verified are kept")


class Fetched:
    """Segments that a thread has fetched.

    Args:
        source: the overlay, read up to the first segment.
        entries: the table of all segments.
        first: the index of the first segment to fetch.
        offset: the offset of that segment's first byte in the overlay.
    """

    def __init__(self, source: Source, entries: Sequence[Entry], first: int, offset: int) -> None:
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(source, entries, first, offset), name="fetch", daemon=True)
        self._thread.start()

    def next(self, *, wait: bool) -> bytes | None:
        """Return the next segment; `None` after the last one.

        Args:
            wait: whether to wait for the segment.

        Raises:
            queue.Empty: the segment has not arrived yet, and `wait` is false.
            AtollError: as for `read_segment`.
        """
        item = self._queue.get(block=wait)
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Ask the thread to stop fetching; it first ends the read that it has begun."""
        self._stop.set()

    def _run(self, source: Source, entries: Sequence[Entry], first: int, offset: int) -> None:
        try:
            for number, entry in enumerate(entries[first:], first):
                if not self._put(read_segment(source, number, entry, offset)):
                    return
                offset += entry.length
            source.expect_end()
            self._put(None)
        except Exception as error:  # `next` raises it in the reader's thread
            self._put(error)

    def _put(self, item: bytes | Exception | None) -> bool:
        """Queue an item for the reader; return False if the reader has stopped."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return True
        return False


@contextmanager
def fetching(source: Source, entries: Sequence[Entry], first: int, offset: int) -> Iterator[Fetched]:
    """Fetch segments in a thread while the context lasts; yield the object that returns them. For the parameters see `Fetched`."""
    fetched = Fetched(source, entries, first, offset)
    try:
        yield fetched
    finally:
        fetched.stop()
