"""A list of servers that does not look again for what it has seen the end of.

Upstream's lister (`CrossCellLister.get_records_sorted` in nova/compute/multi_cell_list.py) asks each database for batch after batch, until
one is empty: also after one that was not full, so that all lists end with two further queries in vain, of the last server (its marker) and
of those after it. They are a quarter of the time of a list of a hundred names. Replaced: the batch after one that was not full.
"""

from __future__ import annotations

import functools
from typing import Any

from nova.compute.instance_list import InstanceLister


def install() -> None:
    """Have Nova's lister, which is made for each list, know where a cell ends. No subclass: upstream's own calls `super` by its name."""
    InstanceLister.get_by_filters = _until_the_end(InstanceLister.get_by_filters)


def _until_the_end(upstream: Any) -> Any:
    @functools.wraps(upstream)
    def get_by_filters(self: Any, ctx: Any, filters: Any, limit: int | None, marker: str | None, **more: Any) -> Any:
        ends: set[tuple[str, str]] = self.__dict__.setdefault("ends", set())  # cell and UUID of servers after which there are none
        if (ctx.cell_uuid, marker) in ends:
            return []
        found = upstream(self, ctx, filters, limit, marker, **more)
        if found and limit and len(found) < limit:
            ends.add((ctx.cell_uuid, found[-1]["uuid"]))
        return found

    return get_by_filters
