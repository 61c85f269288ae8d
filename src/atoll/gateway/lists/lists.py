"""Lists of all sites as one: ask all sites at the same time, merge their answers, and name the sites that did not answer."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from cachetools import LRUCache
from multidict import CIMultiDict

from atoll.gateway.faults import fault, unreachable
from atoll.gateway.lists import paging
from atoll.gateway.lists.aggregates import network_ip_availabilities
from atoll.gateway.lists.incomplete import refusal
from atoll.gateway.lists.order import Item, Style
from atoll.gateway.lists.paging import Page
from atoll.gateway.lists.union import PagedMerge, Positions, cut, merge
from atoll.gateway.lists.unreachable_servers import UNKNOWN, UnreachableServers
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import MISSING, SITE
from atoll.gateway.resolve import visibility
from atoll.gateway.resolve.routes import COMPUTE, Resource, Route
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

ANSWER_S = 30.0
"""Seconds to wait for the list of a reachable site. An unreachable site is noticed much earlier; see `sites.PATIENCE_S`."""

CURSORS = 4096
"""Greatest number of positions in lists that are cached, so that a page can begin where the previous one ended."""

CREATED = 20_000
"""Greatest number of servers whose creation time is cached."""


_NOT_ALWAYS = frozenset(("id", "progress"))
"""Sort fields that an item may lack: some items have no id, and some servers no progress."""

_Part = tuple[list[dict[str, Any]], bool]
"""A part of a site's list, and whether the list continues."""


class _Refused(Exception):
    """The service of the leading site refuses the request; the refusal is the answer to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class _NoMarker(Exception):
    """A site no longer knows its marker."""


@dataclass
class _Listing:
    """A list request that is under way.

    Attributes:
        call: the client's request.
        route: the request's route.
        resource: the type of the items.
        page: the requested page.
        detail: `True` if the order depends on fields that only a detailed list shows.
        leader: the site whose answer is the pattern of the merged one.
        dated: `True` if the order depends only on the creation time of servers.
        template: the body of the leader's answer.
        headers: the headers of the leader's answer.
        missing: the sites that do not answer.
        away: those sites of `missing` that can't be reached, or whose service fails.
        without: the sites that have no such list, each with its answer.
        read: the items in each site's answers, from the beginning of its list.
        ended: the sites of `read` whose list is complete.
        shown: of the fields that decide the order, those that some item has.
    """

    call: Call
    route: Route
    resource: Resource
    page: Page
    detail: bool
    leader: str
    dated: bool = False
    template: dict[str, Any] | None = None
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    missing: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    without: dict[str, Reply] = field(default_factory=dict)
    read: dict[str, list[Item]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)

    def identifier(self, item: Item) -> str:
        """Return the id of an item, as in a marker."""
        return str(item.get(self.resource.marker, ""))

    def note(self, site: str, marker: str | None, items: Sequence[Item], *, more: bool) -> None:
        """Record a site's answer.

        Args:
            site: the site.
            marker: the marker that the answer follows; `None` at the beginning of the list.
            items: the items of the answer.
            more: whether the list continues.
        """
        hidden = [name for name in self.page.order.fields if name not in self.shown]
        self.shown.update(name for name in hidden if any(name in item for item in items))
        if marker is None:
            self.read[site] = list(items)
        elif site in self.read:
            self.read[site] += items
        if not more:
            self.ended.add(site)

    def hidden_order(self) -> str:
        """Return a sort field that no answer shows although two sites have items, so that their lists can't be merged; empty if none."""
        if sum(bool(items) for items in self.read.values()) < 2:
            return ""
        return next((name for name in self.page.order.fields if name not in self.shown and name not in _NOT_ALWAYS), "")


class Lists:
    """The answers to list requests.

    Args:
        sites: sends requests to the sites.
        learn: called with a type of resource, and the ids of such resources with their sites.
        unreachable: the cached servers of sites that do not answer.
    """

    def __init__(self, sites: Sites, learn: Any, unreachable: UnreachableServers) -> None:
        self._sites = sites
        self._learn = learn
        self._unreachable = unreachable
        self._cursors: LRUCache[tuple[Any, ...], Positions] = LRUCache(CURSORS)
        self._created: LRUCache[str, str] = LRUCache(CREATED)

    async def union(self, call: Call, route: Route, sites: Sequence[str]) -> Reply:
        """Answer with the union of some sites' lists.

        Args:
            call: the client's request.
            route: the request's route.
            sites: the sites whose lists are merged.
        """
        resource = route.resource
        assert resource is not None
        here = self._sites.here
        try:
            page = paging.parse(call, resource)
            unseen = {name for name in page.order.fields if name not in resource.brief}
            leader = here if here in sites else sites[0]
            dated = not route.detail and unseen == {"created"}
            listing = _Listing(call, route, resource, page, route.detail or bool(unseen), leader, dated)
            chosen = await (self._walk if resource.cursor and page.limit is not None else self._whole)(listing, sites)
        except (paging.Unclear, _NoMarker):
            return await self._sites.send(here if here in sites else sites[0], call)  # the service's own answer to an invalid request
        except _Refused as refused:
            return refused.reply
        if listing.template is None:
            return (
                listing.without.get(leader)
                or next(iter(listing.without.values()), None)
                or unreachable(call.service, listing.missing, here)
            )
        if incomplete := refusal(call, listing.missing, here, found=bool(chosen)):
            return incomplete
        if hidden := listing.hidden_order():
            return fault(
                call.service, 400, f"{resource.key} of several sites can't be sorted by {hidden}: their answers do not show it", here
            )
        unknown = await self._unknown(listing)
        return self._reply(listing, chosen, [site for site in sites if site not in listing.missing], unknown)

    async def _unknown(self, listing: _Listing) -> list[Item]:
        """Cache the servers in the answers, and return the cached servers of unreachable sites."""
        if listing.resource.style is not Style.SERVERS:
            return []
        query = listing.page.query
        self._unreachable.learn(listing.call, query, listing.read, listing.ended - listing.missing)
        return await self._unreachable.list(listing.call, listing.route, query, sorted(listing.away)) if listing.away else []

    def _reply(self, listing: _Listing, chosen: Sequence[tuple[str, Item]], sites: Sequence[str], unknown: Sequence[Item] = ()) -> Reply:
        resource, page = listing.resource, listing.page
        if not resource.copies:
            self._learn(resource, ((str(item.get("id", "")), site) for site, item in chosen))
        items: Iterable[Any] = (item for _site, item in chosen)
        if unknown:
            items = heapq.merge(unknown, items, key=page.order.key)
        if resource.brief and not listing.route.detail:
            brief = (*resource.brief, *(("status",) if unknown else ()))
            items = ({name: item[name] for name in brief if name in item and (name != "status" or item[name] == UNKNOWN)} for item in items)
        if page.fields:
            items = ({name: value for name, value in item.items() if name in page.fields} for item in items)
        if resource.wrapped:
            items = ({resource.item: item} for item in items)
        body: dict[str, Any] = {resource.key: list(items)}
        body |= paging.links(listing.call, listing.route, page, [listing.identifier(item) for _site, item in chosen])
        listing.headers[SITE] = ",".join(sites)
        if listing.missing:
            listing.headers[MISSING] = ",".join(sorted(listing.missing))
        return Reply(200, listing.headers, orjson.dumps(body), listing.headers[SITE])

    async def _whole(self, listing: _Listing, sites: Sequence[str]) -> list[tuple[str, Item]]:
        """Return the items of a page with their sites, after reading the whole list of each site.

        All copies of a resource must be known before one of them can be chosen.

        Raises:
            _NoMarker: no site lists the marker.
        """
        lists: dict[str, list[Item]] = {site: [] for site in sites}

        async def read(site: str) -> None:
            marker: str | None = None
            more = True
            while more and (answer := await self._ask(listing, site, None, marker)) is not None:
                items, more = answer
                lists[site] += items
                more = more and bool(items)
                if more:
                    marker = str(len(lists[site])) if listing.resource.offset else listing.identifier(items[-1])

        await _all(read(site) for site in sites)
        for site in listing.missing:
            lists[site] = []
        page = listing.page
        if listing.resource.key == "network_ip_availabilities":
            lists = {listing.leader: network_ip_availabilities(lists.values())}
        merged = merge(lists, page.order, identity(listing.resource), self._age)
        found = cut(
            merged,
            lambda entry: listing.identifier(entry[1]),
            marker=page.marker,
            limit=page.limit,
            backwards=page.backwards,
            offset=page.offset,
        )
        if found is None:
            raise _NoMarker
        return found

    def _age(self, site: str, item: Item) -> str:
        """Return the time when an item was created; for this site's own copy of a Neutron resource, a time before all others.

        A request for the single resource shows that copy too.
        """
        if site == self._sites.here and "revision_number" in item:
            return ""
        return str(item.get("created_at") or "")

    async def _walk(self, listing: _Listing, sites: Sequence[str]) -> list[tuple[str, Item]]:
        """Read the lists page by page, from the end of the previous page."""
        page = listing.page
        assert page.limit is not None
        # A digest, since queries are long and many are cached.
        told = repr((listing.call.token, listing.call.path.removesuffix("/detail"), page.rest))
        subject = hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).digest()
        start = self._cursors.get((subject, page.marker)) if page.marker else None
        try:
            walk, chosen = await self._read(listing, sites, start, None if start else page.marker)
        except _NoMarker:
            if start is None:
                raise
            walk, chosen = await self._read(listing, sites, None, page.marker)
        if chosen and len(chosen) == page.limit:
            self._cursors[(subject, listing.identifier(chosen[-1][1]))] = walk.positions()
        return chosen

    async def _read(
        self, listing: _Listing, sites: Sequence[str], start: Positions | None, after: str | None
    ) -> tuple[PagedMerge, list[tuple[str, Item]]]:
        """Read one page of the merged list.

        Args:
            listing: the request.
            sites: the sites whose lists are merged.
            start: the positions at which to begin; `None` for the beginning.
            after: the item up to which items are skipped; `None` to skip none.
        """
        limit = listing.page.limit
        assert limit is not None
        positions = {site: start[site] for site in sites if site in start} if start is not None else dict.fromkeys(sites)
        # The items of a site that was missing from earlier pages would appear at the wrong place.
        listing.missing |= set(sites) - positions.keys()
        walk = PagedMerge(listing.page.order, listing.identifier, positions)
        chosen: list[tuple[str, Item]] = []
        while True:
            for site, item in walk.take(limit - len(chosen) if after is None else 1):
                if after is None:
                    chosen.append((site, item))
                elif listing.identifier(item) == after:
                    after = None
            wants = walk.wants()
            if len(chosen) == limit or (not wants and not walk.ahead):
                break
            size = limit if after is None else paging.MAX_PAGE
            await _all(self._feed(listing, walk, site, marker, size) for site, marker in wants.items())
        if after is not None:
            raise _NoMarker
        return walk, chosen

    async def _feed(self, listing: _Listing, walk: PagedMerge, site: str, marker: str | None, limit: int) -> None:
        answer = await self._ask(listing, site, limit, marker)
        if answer is None:
            walk.drop(site)
        else:
            walk.feed(site, answer[0], more=answer[1])

    async def _ask(self, listing: _Listing, site: str, limit: int | None, marker: str | None) -> _Part | None:
        """Ask one site for a part of its list; return `None` if it does not answer.

        A list with details costs Nova five times as much as one of names. If all needed creation times are cached, only names are
        requested.

        Raises:
            _Refused: the service of the leading site refuses.
            _NoMarker: the marker is gone.
        """
        query = paging.ask(listing.page, listing.resource, limit, marker)
        if listing.dated:
            answer = await self._part(listing, site, listing.call.with_(query=query), again=marker is not None)
            if answer is None or self._date(answer[0]):
                return self._noted(listing, site, marker, answer)
        path = f"{listing.route.base}/detail" if listing.detail and listing.resource.brief else listing.call.path
        answer = await self._part(listing, site, listing.call.with_(path=path, query=query), again=marker is not None)
        if answer is not None and listing.dated:
            for item in answer[0]:
                self._created[item["id"]] = item["created"]
        return self._noted(listing, site, marker, answer)

    @staticmethod
    def _noted(listing: _Listing, site: str, marker: str | None, answer: _Part | None) -> _Part | None:
        if answer is not None:
            listing.note(site, marker, answer[0], more=answer[1])
        return answer

    def _date(self, items: list[dict[str, Any]]) -> bool:
        """Add the cached creation times to servers; return `False` if one is not cached."""
        for item in items:
            created = self._created.get(item["id"])
            if created is None:
                return False
            item["created"] = created
        return True

    async def _part(self, listing: _Listing, site: str, call: Call, *, again: bool) -> _Part | None:
        """Ask as in `_ask`; `again` is true if the request continues after a marker."""
        resource = listing.resource
        try:
            reply = await self._sites.send(site, call, ANSWER_S)
            if reply.status in visibility.REFUSALS and call.path != listing.call.path:
                reply = await self._seen(listing, site, call, reply)
            if reply.status == 200:
                body = orjson.loads(reply.body)
                items = [item[resource.item] for item in body[resource.key]] if resource.wrapped else body[resource.key]
                if listing.template is None or site == listing.leader:
                    listing.template, listing.headers = body, reply.headers
                return items, not listing.page.none and paging.goes_on(body, resource)
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s: can't read the list %s of %s: %s", call.request_id, call.path, site, error)
            listing.missing.add(site)
            listing.away.add(site)
            return None
        if again and 400 <= reply.status < 500:
            raise _NoMarker
        if reply.status == 404:  # a site without this service, or this part of it, has none of the items
            listing.without[site] = reply
            return [], False
        if site == listing.leader:
            raise _Refused(reply)
        LOG.warning("%s: %s answers %d to a list %s", call.request_id, site, reply.status, call.path)
        listing.missing.add(site)
        if reply.status >= 500:
            listing.away.add(site)
        return None

    async def _seen(self, listing: _Listing, site: str, call: Call, refused: Reply) -> Reply:
        """Ask for the fields that merging needs, where the access rules of the client's token allow only the list of the client's request.

        Args:
            listing: the client's request.
            site: the site to ask.
            call: the request for the same items with more fields, refused with the client's token.
            refused: the refusal, which stands if access rules are not the reason.

        Raises:
            Unreachable: the site does not answer.
        """
        if listing.resource.key not in COMPUTE:  # Nova's proxies show only what their caller may see
            return refused
        own = await self._sites.send(site, listing.call.with_(query=call.query), ANSWER_S)
        if not own.ok:
            return own
        view = await visibility.view(self._sites, site, call.token, call.service, call.target)
        return replace(own, body=view.body) if view.ok else refused


def identity(resource: Resource) -> Callable[[Item], Hashable]:
    """Return the function that maps an item to the key which its copies at several sites have in common.

    Args:
        resource: the type of the items.
    """
    names = resource.identity

    def of(item: Item) -> Hashable:
        if any(name in item for name in names):
            return tuple(item.get(name) for name in names)
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)  # items without an id are the same if they are equal

    return of


async def _all(tasks: Iterable[Any]) -> None:
    """Run several coroutines concurrently, and wait until all have ended; the first error cancels the others, and is raised."""
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* (_Refused, _NoMarker) as errors:
        first = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:
        raise first  # not in the block above: Python 3.11.2 would wrap it into a group
