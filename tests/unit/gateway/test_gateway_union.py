"""The union of several sites' lists equals the list of one site with all items: any items, split, order, limit and marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.gateway.lists.order import Order, Style, order
from atoll.gateway.lists.union import PagedMerge, cut, merge

SITES = ("paris", "lyon", "nice", "rennes")
Item = dict[str, Any]


def identifier(item: Item) -> str:
    return item["id"]


def identity(item: Item) -> str:
    return item["id"]


def age(_site: str, item: Item) -> str:
    return item.get("made", "")


names = st.one_of(st.none(), st.sampled_from(["a", "b", "é", "Z", ""]), st.integers(0, 3))
items = st.lists(
    st.fixed_dictionaries({"id": st.text("0123456789abcdef", min_size=2, max_size=4), "name": names, "size": st.integers(0, 3)}),
    unique_by=identifier,
    max_size=30,
)
orders = st.lists(st.tuples(st.sampled_from(["name", "size"]), st.booleans()), max_size=2, unique_by=lambda term: term[0]).flatmap(
    lambda terms: st.booleans().map(lambda falls: Order((*terms, ("id", falls))))
)
splits = st.lists(st.integers(0, len(SITES) - 1), min_size=30, max_size=30)


class OneSite:
    """A site that filters, sorts, finds the marker and cuts as Nova does."""

    def __init__(self, held: Sequence[Item], sorting: Order) -> None:
        self.held = sorted(held, key=sorting.key)

    def page(self, limit: int, marker: str | None) -> tuple[list[Item], bool]:
        start = 0 if marker is None else [item["id"] for item in self.held].index(marker) + 1
        found = self.held[start : start + limit]
        return found, len(found) == limit


def split(held: Sequence[Item], places: Sequence[int], sorting: Order) -> dict[str, OneSite]:
    return {
        site: OneSite([item for item, place in zip(held, places, strict=False) if place == index], sorting)
        for index, site in enumerate(SITES)
    }


def read(walk: PagedMerge, sites: dict[str, OneSite], limit: int, most: int) -> tuple[list[Item], int]:
    """Return one page, and the number of rounds of requests to sites."""
    found: list[Item] = []
    rounds = 0
    while True:
        found += [item for _site, item in walk.take(limit - len(found))]
        wants = walk.wants()
        if len(found) == limit or not (wants or walk.ahead):
            return found, rounds
        rounds += 1
        for site, marker in wants.items():
            some, more = sites[site].page(most, marker)
            walk.feed(site, some, more=more)


@given(items, splits, orders, st.integers(1, 8))
def test_pages_from_cursors(held: list[Item], places: list[int], sorting: Order, limit: int) -> None:
    sites = split(held, places, sorting)
    whole = OneSite(held, sorting)
    positions: dict[str, str | None] = dict.fromkeys(SITES)
    marker = None
    while True:
        walk = PagedMerge(sorting, identifier, positions)
        found, rounds = read(walk, sites, limit, limit)
        assert (found, len(found) == limit) == whole.page(limit, marker)
        assert rounds <= 1  # a page costs one trip to each site
        if len(found) < limit:
            return
        marker, positions = found[-1]["id"], walk.positions()


@given(items, splits, orders, st.tuples(st.integers(1, 8), st.integers(1, 5)), st.data())
def test_a_page_after_any_marker_without_a_cursor(
    held: list[Item], places: list[int], sorting: Order, sizes: tuple[int, int], data: st.DataObject
) -> None:
    limit, most = sizes
    whole = OneSite(held, sorting)
    marker = data.draw(st.sampled_from([None, *(item["id"] for item in held)]))
    walk = PagedMerge(sorting, identifier, dict.fromkeys(SITES))
    everything, _rounds = read(walk, split(held, places, sorting), len(held) + 1, most)
    assert everything == whole.held
    found = cut(everything, identifier, marker=marker, limit=limit)
    assert found == whole.page(limit, marker)[0]


@given(items, st.lists(st.sets(st.integers(0, len(SITES) - 1), min_size=1), min_size=30, max_size=30), orders, st.integers(1, 8))
def test_copies_are_counted_once(held: list[Item], places: list[set[int]], sorting: Order, limit: int) -> None:
    lists = {
        site: OneSite([item for item, where in zip(held, places, strict=False) if index in where], sorting).held
        for index, site in enumerate(SITES)
    }
    merged = [item for _site, item in merge(lists, sorting, identity, age)]
    assert merged == OneSite(held, sorting).held
    assert cut(merged, identifier, marker=None, limit=limit) == OneSite(held, sorting).page(limit, None)[0]


def test_of_copies_the_original_is_shown() -> None:
    lists = {
        "paris": [{"id": "x", "made": "2026-02", "at": "paris"}],
        "lyon": [{"id": "x", "made": "2026-01", "at": "lyon"}, {"id": "y", "at": "lyon"}],
        "nice": [{"id": "x", "made": "2026-01", "at": "nice"}, {"id": "y", "at": "nice"}],
    }
    merged = merge(lists, Order((("id", False),)), identity, age)
    assert [(site, item["id"]) for site, item in merged] == [("lyon", "x"), ("lyon", "y")]


@given(items, st.integers(0, 8) | st.none(), st.booleans(), st.integers(0, 5), st.data())
def test_cutting(held: list[Item], limit: int | None, backwards: bool, offset: int, data: st.DataObject) -> None:
    marker = data.draw(st.sampled_from([None, "nobody", *(item["id"] for item in held)]))
    found = cut(held, identifier, marker=marker, limit=limit, backwards=backwards, offset=0 if backwards else offset)
    ids = [item["id"] for item in held]
    if marker == "nobody":
        assert found is None
        return
    assert found is not None
    assert limit is None or len(found) <= limit
    if backwards:  # neutron.api.api_common.PaginationEmulatedHelper.paginate
        end = ids.index(marker) if marker is not None else len(ids)
        assert found == (held[:end] if limit is None else held[max(end - limit, 0) : end])
    else:
        begin = offset + (ids.index(marker) + 1 if marker is not None else 0)
        assert found == held[begin:][:limit]


def test_a_site_that_does_not_answer_is_left_out() -> None:
    walk = PagedMerge(Order((("id", False),)), identifier, dict.fromkeys(("paris", "lyon")))
    walk.feed("paris", [{"id": "b"}], more=False)
    assert list(walk.take(5)) == []  # an item of lyon may come first
    walk.drop("lyon")
    assert list(walk.take(5)) == [("paris", {"id": "b"})]
    assert walk.positions() == {"paris": "b"}


@pytest.mark.parametrize(
    ("style", "query", "expected"),
    [
        (Style.SERVERS, "", "-created +id"),
        (Style.SERVERS, "sort_key=display_name", "-name +id"),
        (Style.SERVERS, "sort_key=display_name&sort_dir=asc", "+name +id"),
        (Style.SERVERS, "sort_key=uuid&sort_dir=desc", "-id"),
        (Style.SERVERS, "sort_key=host&sort_key=created_at&sort_dir=asc&sort_dir=desc", "+OS-EXT-SRV-ATTR:host -created +id"),
        (Style.FLAVORS, "", "+id +id"),
        (Style.FLAVORS, "sort_key=memory_mb&sort_dir=desc", "-ram -id"),
        (Style.IMAGES, "", "-created_at -id"),
        (Style.IMAGES, "sort=name:asc,size", "+name -size -created_at -id"),
        (Style.IMAGES, "sort_key=name&sort_dir=asc", "+name +created_at +id"),
        (Style.IMAGES, "sort_key=name&sort_key=size&sort_dir=asc", "+name +size +created_at +id"),
        (Style.NETWORK, "", "+id"),
        (Style.NETWORK, "sort_key=name&sort_dir=desc", "-name +id"),
        (Style.KEYPAIRS, "", "+name"),
        (Style.UNSORTED, "sort_key=name", ""),
    ],
)
def test_orders(style: Style, query: str, expected: str) -> None:
    found = order(style, parse_qsl(query))
    assert " ".join(("-" if falls else "+") + name for name, falls in found.terms) == expected


def test_nothing_comes_before_numbers_before_text() -> None:
    values = [None, 0, 2, "", "A", "a", "é"]
    rising = Order((("x", False),))
    assert sorted(set(values), key=lambda value: rising.key({"x": value})) == values
    falling = Order((("x", True),))
    assert sorted(values, key=lambda value: falling.key({"x": value})) == values[::-1]
    assert rising.key({"x": {"id": "i"}}) == rising.key({"x": "i"})
