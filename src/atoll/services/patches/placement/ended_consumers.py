"""The deletion of consumers without allocations, skipped if the list of consumers is empty.

After each write of allocations, Placement deletes the consumers that the request left without allocations. If all consumers of the request
have allocations, as in each boot, it still executes two statements, for an empty list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from placement.objects import consumer


def _if_any(upstream: Callable[[Any, Collection[str]], None]) -> Callable[[Any, Collection[str]], None]:
    @wraps(upstream)
    def delete_consumers_if_no_allocations(context: Any, uuids: Collection[str]) -> None:
        if uuids:
            upstream(context, uuids)

    return delete_consumers_if_no_allocations


def install() -> None:
    """Make Placement look for consumers without allocations only if the list of consumers is not empty."""
    consumer.delete_consumers_if_no_allocations = _if_any(consumer.delete_consumers_if_no_allocations)
