"""The rule by which a full store makes room: a client that records more than others displaces only its own traces.

When the store is full, one eighth of its spans is deleted:

1. A trace that has more than one eighth of all spans loses the spans that began last, until it has one eighth.
2. Each trace belongs to the client that asked for it; all traces that were recorded by chance belong to one further client. The client with
   most spans loses the trace that has been longest without a new span. This is repeated until there is room.

So each of n clients keeps its traces as long as they occupy less than one n-th of the store.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import NamedTuple

PART = 8
"""Divisor of the number of spans: one eighth is deleted each time, and one trace may have at most one eighth."""


class Held(NamedTuple):
    """The spans of one trace in a store.

    Attributes:
        trace: the id of the trace.
        client: the user who asked for the recording; `None` if the trace was recorded by chance.
        spans: the number of spans.
        latest: the serial number of the span that was written last.
    """

    trace: bytes
    client: str | None
    spans: int
    latest: int


def victims(traces: Iterable[Held]) -> dict[bytes, int]:
    """Return, for each trace that loses spans, the number of spans that it may keep; 0 if the whole trace is deleted.

    Args:
        traces: all traces of the store.
    """
    held = sorted(traces, key=lambda each: each.latest)
    total = sum(each.spans for each in held)
    wanted = most = max(1, total // PART)
    result: dict[bytes, int] = {}
    sizes: dict[str | None, int] = defaultdict(int)
    own: dict[str | None, deque[tuple[bytes, int]]] = defaultdict(deque)
    for each in held:
        kept = min(each.spans, most)
        if kept < each.spans:
            result[each.trace] = kept
            wanted -= each.spans - kept
        sizes[each.client] += kept
        own[each.client].append((each.trace, kept))
    # The second number decides between equals, since names can't be compared with `None`.
    largest = [(-size, number, client) for number, (client, size) in enumerate(sizes.items())]
    heapq.heapify(largest)
    while wanted > 0 and largest:
        size, number, client = heapq.heappop(largest)
        trace, spans = own[client].popleft()
        result[trace] = 0
        wanted -= spans
        if own[client]:
            heapq.heappush(largest, (size + spans, number, client))
    return result
