"""The union of lists that several sites hold, in one order, page by page. Pure: whoever uses it does the asking.

Each site's list is sorted by that site. Merging takes the least of the lists' heads again and again, so what comes next depends on how far
each list has been read, and on nothing else: a page can go on exactly where the one before it ended.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from atoll.gateway.lists.order import Item, Order

Positions = Mapping[str, str | None]
"""How far each site's list has been read: the id of the last item taken, None at its beginning."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def merge(
    lists: Mapping[str, Sequence[Item]], order: Order, identity: Callable[[Item], Hashable], age: Callable[[str, Item], str]
) -> list[tuple[str, Item]]:
    """Merge whole lists.

    Of items with one identity the oldest is taken, which is the original of what was copied later; of equally old ones, that of the first
    site.

    Args:
        lists: by site, each in `order`.
        order: of the result.
        identity: what makes items of different sites one.
        age: when a site's item was made; equal for all if nobody knows.

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


def cut(  # noqa: PLR0913 - what a client may say about a page
    items: Sequence[V], identifier: Callable[[V], str], *, marker: str | None, limit: int | None, backwards: bool = False, offset: int = 0
) -> list[V] | None:
    """Cut one page out of a whole list.

    Args:
        items: the list.
        identifier: of an item, as in `marker`.
        marker: the item before the page; behind it if `backwards`.
        limit: the page's length at most; None: no end.
        backwards: the page before the marker, or the last one.
        offset: items to be passed over at the beginning.

    Returns:
        The page; None if no item is the marker.
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


class Walk:
    """Reads several sites' lists side by side, no further than needed.

    Args:
        order: in which each site sorts.
        identifier: of an item, as in a marker.
        positions: where to begin; its keys are the sites.
    """

    def __init__(self, order: Order, identifier: Callable[[Item], str], positions: Positions) -> None:
        self._order = order
        self._identifier = identifier
        self._taken = dict(positions)
        self._asked = dict(positions)
        self._ahead: dict[str, deque[Item]] = {site: deque() for site in positions}
        self._ended: set[str] = set()

    def wants(self) -> dict[str, str | None]:
        """The sites that have to be asked before the walk can go on, each with its marker."""
        return {site: self._asked[site] for site, ahead in self._ahead.items() if not ahead and site not in self._ended}

    def feed(self, site: str, items: Sequence[Item], *, more: bool) -> None:
        """What a site answered.

        Args:
            site: one of `wants()`.
            items: the next of its list.
            more: whether the list goes on.
        """
        self._ahead[site].extend(items)
        if items:
            self._asked[site] = self._identifier(items[-1])
        if not more or not items:
            self._ended.add(site)

    def drop(self, site: str) -> None:
        """Go on without a site."""
        for each in (self._taken, self._asked, self._ahead):
            each.pop(site, None)

    def take(self, limit: int) -> Iterator[tuple[str, Item]]:
        """The next items, as far as they are known, each with its site."""
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
        """Whether anything is known that has not been taken."""
        return any(self._ahead.values())

    def positions(self) -> dict[str, str | None]:
        """Where the walk is."""
        return dict(self._taken)


class Recent(Generic[K, V]):
    """What was used last, up to a number of things.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is held under a key."""
        value = self._held.get(key)
        if value is not None:
            self._held.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Hold something; what was not used for the longest time is forgotten."""
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > self._size:
            self._held.popitem(last=False)

    def forget(self, keys: Iterable[K]) -> None:
        """Hold no more."""
        for key in keys:
            self._held.pop(key, None)
