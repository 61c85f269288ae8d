"""What a list request asks for, in the three ways of Nova, Glance and Neutron, and the links that lead from page to page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from atoll.gateway.lists.order import Order, Style, order
from atoll.gateway.request.call import Call
from atoll.gateway.resolve.routes import Resource, Route

MAX_PAGE = 1000
"""Items of one answer at most: Nova's `max_limit`, Glance's `api_limit_max`."""

GLANCE_PAGE = 25
"""Glance's `limit_param_default`."""

_PAGING = frozenset(("limit", "marker", "page_reverse", "offset"))
_LINKED = frozenset((Style.SERVERS, Style.FLAVORS, Style.KEYPAIRS))
"""Nova's lists that may lead to a next page."""


class Unclear(Exception):  # noqa: N818
    """Parameters that a service refuses, or that leave nothing to merge: the site's own service knows best what to answer."""


@dataclass(frozen=True)
class Page:
    """A list request, taken apart.

    Attributes:
        query: all parameters.
        rest: those that are not about paging.
        limit: items at most; None: all.
        marker: the item before the page.
        backwards: Neutron's `page_reverse`.
        offset: items to pass over.
        order: of the list.
        fields: Neutron's `fields`: what of an item is wanted; empty: all.
    """

    query: tuple[tuple[str, str], ...]
    rest: tuple[tuple[str, str], ...]
    limit: int | None
    marker: str | None
    backwards: bool
    offset: int
    order: Order
    fields: frozenset[str]


def parse(call: Call, resource: Resource) -> Page:
    """Take a list request apart.

    Raises:
        Unclear: its parameters make no sense, or ask for nothing.
    """
    query = tuple(parse_qsl(call.query, keep_blank_values=True))
    given = dict(query)
    limit = _limit(resource.style, given.get("limit"))
    fields = frozenset(value for name, value in query if name == "fields" and value) if resource.style is Style.NETWORK else frozenset()
    return Page(
        query,
        tuple(pair for pair in query if pair[0] not in _PAGING),
        limit,
        # Neutron pages only if there is a limit.
        given.get("marker") if limit is not None else None,
        resource.style is Style.NETWORK and limit is not None and given.get("page_reverse", "").lower() == "true",
        _number(given.get("offset", "0")) if resource.style is Style.UNSORTED else 0,
        order(resource.style, query),
        fields,
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Unclear
    return int(text)


def _limit(style: Style, given: str | None) -> int | None:
    asked = None if given is None else _number(given)
    if style in {Style.NETWORK, Style.UNSORTED, Style.MIGRATIONS}:
        return asked or None
    if asked == 0:
        raise Unclear
    return min(asked or (GLANCE_PAGE if style is Style.IMAGES else MAX_PAGE), MAX_PAGE)


def ask(page: Page, resource: Resource, limit: int | None, marker: str | None) -> str:
    """The query for one site: what the client asks for, from a marker of that site's own on."""
    query = list(page.rest)
    if page.fields:
        query += [("fields", name) for name in {*page.order.fields, "id", "created_at"} - page.fields]
    if resource.style is Style.IMAGES or limit is not None:
        query.append(("limit", str(limit or MAX_PAGE)))
    if marker is not None:
        query.append(("marker", marker))
    return urlencode(query)


def goes_on(body: dict[str, Any], resource: Resource) -> bool:
    """Whether a site's list has more pages, by its own links."""
    if resource.style is Style.IMAGES:
        return "next" in body
    return any(link.get("rel") == "next" for link in body.get(f"{resource.key}_links", ()))


def links(call: Call, route: Route, page: Page, identifiers: list[str]) -> dict[str, Any]:
    """What the answer says of the pages next to it.

    Args:
        call: the client's request; its `X-Forwarded-*` tell what links have to begin with.
        route: of which list.
        page: as asked for.
        identifiers: of the items in the answer, as in markers.
    """
    resource = route.resource
    assert resource is not None
    if resource.style is Style.IMAGES:
        return _image_links(page, identifiers)
    base = f"{call.headers.get('X-Forwarded-Proto', 'http')}://{call.headers.get('X-Forwarded-Host', 'localhost')}"
    base += f"{call.headers.get('X-Forwarded-Prefix', '')}{call.path}"
    if resource.style is Style.NETWORK:
        found = _network_links(base, page, identifiers)
    elif resource.style in _LINKED and identifiers and len(identifiers) == page.limit:
        # Nova sorts the parameters.
        query = urlencode(sorted((dict(page.query) | {"marker": identifiers[-1]}).items()))
        found = [{"rel": "next", "href": f"{base}?{query}"}]
    else:
        found = []
    return {f"{resource.key}_links": found} if found else {}


def _image_links(page: Page, identifiers: list[str]) -> dict[str, Any]:
    query = {name: value for name, value in page.query if name != "marker"}
    answer = {"first": "/v2/images?" + urlencode(query) if query else "/v2/images", "schema": "/v2/schemas/images"}
    if identifiers and len(identifiers) == page.limit:
        answer["next"] = "/v2/images?" + urlencode(query | {"marker": identifiers[-1]})
    return answer


def _network_links(base: str, page: Page, identifiers: list[str]) -> list[dict[str, str]]:
    """As `neutron.api.api_common.get_pagination_links` makes them."""
    found: list[dict[str, str]] = []
    if page.limit is None:
        return found
    full = len(identifiers) >= page.limit
    rest = [pair for pair in page.query if pair[0] != "marker"]
    if full or page.backwards:
        after = [pair for pair in rest if pair[0] != "page_reverse"] + [("marker", each) for each in identifiers[-1:]]
        found.append({"rel": "next", "href": f"{base}?{urlencode(after)}"})
    if full or not page.backwards:
        before = [pair for pair in rest if pair[0] != "page_reverse"] + [("marker", each) for each in identifiers[:1]]
        found.append({"rel": "previous", "href": f"{base}?{urlencode([*before, ('page_reverse', 'True')])}"})
    return found
