"""The page that a list request asks for, in the styles of Nova, Glance and Neutron, and the links to the previous and next pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from atoll.gateway.lists.order import Order, Style, order
from atoll.gateway.request.call import Call
from atoll.gateway.request.headers import microversion
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.routes import Resource, Route

MAX_PAGE = 1000
"""Greatest number of items of one answer: Nova's `max_limit`, Glance's `api_limit_max`."""

GLANCE_PAGE = 25
"""Glance's `limit_param_default`."""

_AGE = ("created_at", "revision_number")
"""Fields by which the gateway chooses which of several copies of a resource a list shows: the age and the revision of a copy."""

_PAGING = frozenset(("limit", "marker", "page_reverse", "offset"))


class Unclear(Exception):
    """The parameters are invalid or request an empty page, so the site's own service answers the request."""


@dataclass(frozen=True)
class Page:
    """The parsed parameters of a list request.

    Attributes:
        query: all parameters.
        rest: the parameters that are not about paging.
        limit: the greatest number of items; `None` for all.
        marker: the item before the page.
        backwards: Neutron's `page_reverse`.
        offset: the number of items to skip.
        order: the order of the list.
        fields: Neutron's `fields`, the fields of an item that are requested; empty for all.
        none: `limit=0`, which each service handles in its own way.
    """

    query: tuple[tuple[str, str], ...]
    rest: tuple[tuple[str, str], ...]
    limit: int | None
    marker: str | None
    backwards: bool
    offset: int
    order: Order
    fields: frozenset[str]
    none: bool = False


def parse(call: Call, resource: Resource) -> Page:
    """Parse the parameters of a list request.

    Raises:
        Unclear: the parameters are invalid, or request an empty page.
    """
    query = tuple(parse_qsl(call.query, keep_blank_values=True))
    given = dict(query)
    version = microversion(call.headers)
    pages = resource.paged_since <= version
    asked = _number(given["limit"]) if pages and "limit" in given else None
    limit = _limit(resource, asked) if pages else None
    fields = frozenset(value for name, value in query if name == "fields" and value) if resource.style is Style.NETWORK else frozenset()
    return Page(
        query,
        tuple(pair for pair in query if pair[0] not in _PAGING),
        limit,
        # Neutron pages only if there is a limit.
        given.get("marker") if limit is not None else None,
        resource.style is Style.NETWORK and limit is not None and given.get("page_reverse", "").lower() == "true",
        _number(given.get("offset", "0")) if resource.offset else 0,
        order(resource.style if pages else Style.UNSORTED, query, version),
        fields,
        none=asked == 0 and limit is None and resource.linked,
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Unclear
    return int(text)


def _limit(resource: Resource, asked: int | None) -> int | None:
    if resource.style is Style.NETWORK:
        return asked or None
    if resource.offset:
        return min(asked or MAX_PAGE, MAX_PAGE)
    if resource.style is Style.IMAGES:
        if asked == 0:
            raise Unclear  # each site would answer with an empty page
        return min(asked or GLANCE_PAGE, MAX_PAGE)
    if not resource.linked or asked == 0:
        return None
    return min(asked or MAX_PAGE, MAX_PAGE)


def ask(page: Page, resource: Resource, limit: int | None, marker: str | None) -> str:
    """Return the query for one site: the client's parameters, from a marker of that site on."""
    query = list(page.rest)
    if page.fields:
        wanted = {*page.order.fields, *resource.identity, resource.marker, *_AGE}
        query += [("fields", name) for name in sorted(wanted - page.fields)]
    if page.none:
        query.append(("limit", "0"))
    elif resource.style is Style.IMAGES or limit is not None:
        query.append(("limit", str(limit or MAX_PAGE)))
    if marker is not None:
        query.append(("offset" if resource.offset else "marker", marker))
    return urlencode(query)


def goes_on(body: dict[str, Any], resource: Resource) -> bool:
    """Return whether a site's list has more pages, by its own links or, without any, by its length."""
    if resource.style is Style.IMAGES:
        return "next" in body
    if resource.offset:
        return len(body[resource.key]) >= MAX_PAGE
    return any(link.get("rel") == "next" for link in body.get(f"{resource.key}_links", ()))


def service_url(call: Call) -> str:
    """Return the beginning of a service's URLs as a client sees them, by the headers `X-Forwarded-*`."""
    base = f"{call.headers.get('X-Forwarded-Proto', 'http')}://{call.headers.get('X-Forwarded-Host', 'localhost')}"
    return base + call.headers.get("X-Forwarded-Prefix", "")


def links_of(call: Call, collection: str, identifier: str) -> list[dict[str, str]]:
    """Return the two links of one of Nova's resources: with the API's version and without.

    Args:
        call: the client's request.
        collection: the path of the collection, which begins with the version.
        identifier: the resource's id.
    """
    _empty, _version, rest = collection.split("/", 2)
    return [
        {"rel": "self", "href": f"{service_url(call)}{collection}/{segment(identifier)}"},
        {"rel": "bookmark", "href": f"{service_url(call)}/{rest}/{segment(identifier)}"},
    ]


def next_link(call: Call, query: Sequence[tuple[str, str]], marker: str) -> list[dict[str, str]]:
    """Return Nova's link to the next page, with the parameters in Nova's order."""
    following = sorted([*(pair for pair in query if pair[0] != "marker"), ("marker", marker)], key=lambda pair: pair[0])
    return [{"rel": "next", "href": f"{service_url(call)}{call.path}?{urlencode(following)}"}]


def links(call: Call, route: Route, page: Page, identifiers: list[str]) -> dict[str, Any]:
    """Return the links of an answer to the previous and next pages.

    Args:
        call: the client's request; its `X-Forwarded-*` headers give the beginning of the links.
        route: the route of the list.
        page: the requested page.
        identifiers: the ids of the items in the answer, in the form that markers have.
    """
    resource = route.resource
    assert resource is not None
    if resource.style is Style.IMAGES:
        return _image_links(route, page, identifiers)
    base = service_url(call) + call.path
    if resource.style is Style.NETWORK:
        found = _network_links(base, page, identifiers)
    elif resource.linked and identifiers and len(identifiers) == page.limit:
        found = next_link(call, page.query, identifiers[-1])
    else:
        found = []
    return {f"{resource.key}_links": found} if found else {}


def _image_links(route: Route, page: Page, identifiers: list[str]) -> dict[str, Any]:
    query = [pair for pair in page.query if pair[0] != "marker"]  # filters such as `tag` may be repeated
    answer = {"first": f"{route.base}?{urlencode(query)}" if query else route.base, "schema": route.base.replace("/v2/", "/v2/schemas/")}
    if identifiers and len(identifiers) == page.limit:
        answer["next"] = f"{route.base}?{urlencode([*query, ('marker', identifiers[-1])])}"
    return answer


def _network_links(base: str, page: Page, identifiers: list[str]) -> list[dict[str, str]]:
    """Return the links of `neutron.api.api_common.get_pagination_links`."""
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
