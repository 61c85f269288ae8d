"""The union of several sites' lists in one order, page by page. Pure functions: the caller sends the requests.

Each site sorts its own list. A merge repeatedly takes the least of the lists' first items. So the next item depends only on the positions
in the lists, and a page can begin exactly where the previous one ended.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from atoll.gateway.lists.order import Item, Order

Positions = Mapping[str, str | None]
"""The position in each site's list: the id of the last item taken, `None` at its beginning."""

V = TypeVar("V")


def merge(
    lists: Mapping[str, Sequence[Item]], order: Order, identity: Callable[[Item], Hashable], age: Callable[[str, Item], str]
) -> list[tuple[str, Item]]:
    """Merge whole lists of several sites.

    Of several items with one identity, the result has the oldest, from which the others were copied; if several are equally old, the first
    site's.

    Args:
        lists: the lists by site, each in `order`.
        order: the order of the result.
        identity: returns the key that copies of an item have in common.
        age: returns when a site's item was created; equal for all if unknown.

    Returns:
        The items, each with its site.
    """
    kept: dict[Hashable, tuple[str, str]] = {}
    for site, items in lists.items():
        for item in items:
            held = kept.get(identity(item))
            if held is None or age(site, item) < held[0]:
                kept[identity(item)] = (age(site, item), site)
    own = [[(site, item) for item in items if kept[identity(item)][1] == site] for site, items in lists.items()]
    return list(heapq.merge(*own, key=lambda entry: order.key(entry[1])))


def cut(  # noqa: PLR0913 - each is a parameter of a page in some service
    items: Sequence[V], identifier: Callable[[V], str], *, marker: str | None, limit: int | None, backwards: bool = False, offset: int = 0
) -> list[V] | None:
    """Cut one page out of a whole list.

    Args:
        items: the list.
        identifier: returns the id of an item, as in `marker`.
        marker: the item before the page or, with `backwards`, the item after it.
        limit: the greatest length of the page; `None` for no limit.
        backwards: whether to return the page before the marker or, without a marker, the last page.
        offset: the number of items to skip at the beginning.

    Returns:
        The page; `None` if no item is the marker.
    """
    at = None
    if marker is not None:
        at = next((index for index, item in enumerate(items) if identifier(item) == marker), None)
        if at is None:
            return None
    if backwards:
        end = len(items) if at is None else at
        return list(items[0 if limit is None else max(end - limit, 0) : end])
    begin = offset + (0 if at is None else at + 1)
    return list(items[begin : None if limit is None else begin + limit])


class PagedMerge:
    """A merge of several sites' lists that reads each no further than needed.

    Args:
        order: the order in which each site sorts.
        identifier: returns the id of an item, as in a marker.
        positions: the positions at which to begin; its keys are the sites.
    """

    def __init__(self, order: Order, identifier: Callable[[Item], str], positions: Positions) -> None:
        self._order = order
        self._identifier = identifier
        self._taken = dict(positions)
        self._asked = dict(positions)
        self._ahead: dict[str, deque[Item]] = {site: deque() for site in positions}
        self._ended: set[str] = set()

    def wants(self) -> dict[str, str | None]:
        """Return the sites that must be asked before the merge can continue, each with its marker."""
        return {site: self._asked[site] for site, ahead in self._ahead.items() if not ahead and site not in self._ended}

    def feed(self, site: str, items: Sequence[Item], *, more: bool) -> None:
        """Add a site's answer.

        Args:
            site: one of `wants()`.
            items: the next items of its list.
            more: whether the list continues.
        """
        self._ahead[site].extend(items)
        if items:
            self._asked[site] = self._identifier(items[-1])
        if not more or not items:
            self._ended.add(site)

    def drop(self, site: str) -> None:
        """Continue without a site."""
        for each in (self._taken, self._asked, self._ahead):
            each.pop(site, None)

    def take(self, limit: int) -> Iterator[tuple[str, Item]]:
        """Yield the next items, as far as the answers so far determine them, each with its site."""
        while limit > 0 and not self.wants():
            heads = [(self._order.key(ahead[0]), index, site) for index, (site, ahead) in enumerate(self._ahead.items()) if ahead]
            if not heads:
                return
            site = min(heads)[2]
            item = self._ahead[site].popleft()
            self._taken[site] = self._identifier(item)
            limit -= 1
            yield site, item

    @property
    def ahead(self) -> bool:
        """True if any known item has not been taken."""
        return any(self._ahead.values())

    def positions(self) -> dict[str, str | None]:
        """Return the current positions."""
        return dict(self._taken)
