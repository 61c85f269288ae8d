"""Answer requests for zones, usage, limits and statistics with the merged answers of all sites."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
from multidict import CIMultiDict

from atoll.gateway.faults import unreachable
from atoll.gateway.lists.aggregates import MERGERS, Body, tenant_usage
from atoll.gateway.lists.incomplete import refusal
from atoll.gateway.lists.paging import MAX_PAGE, next_link
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.context import Request
from atoll.gateway.request.headers import MISSING, SITE, microversion
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

ANSWER_S = 30.0
"""Seconds to wait for a site's answer; see `lists.ANSWER_S`."""

USAGE = "os-simple-tenant-usage"
USAGE_PAGED_SINCE = (2, 40)
"""Nova's first microversion in which usage has pages."""


class Aggregator:
    """The requests that all sites answer together.

    Args:
        sites: sends requests to the sites.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    async def answer(self, request: Request) -> Reply:
        """Answer with the merged answers of all sites; the header `X-Atoll-Missing` names those that do not answer."""
        call, route, among = request.call, request.route, request.among
        if route.name == USAGE and microversion(call.headers) >= USAGE_PAGED_SINCE:
            return await self._usage(call, among)
        replies = await asyncio.gather(*(self._try(site, call) for site in among))
        answered = [reply for reply in replies if reply is not None]
        good = [reply for reply in answered if reply.status == 200]
        # The first site's refusal is the answer, except for 404: another site may have the resource.
        first = answered[0] if answered and (answered[0].status != 404 or not good) else next(iter(good), None)
        if first is None:
            return unreachable(call.service, among, self._sites.here)
        if first.status != 200:
            return first
        bodies = {reply.site: reply.json() for reply in good}
        missing = [site for site, reply in zip(among, replies, strict=True) if reply is None or reply.status not in {200, 404}]
        return self._reply(call, first, list(bodies), missing, MERGERS[route.name](bodies, missing))

    def _reply(self, call: Call, first: Reply, sites: Sequence[str], missing: Sequence[str], body: Body) -> Reply:
        if refused := refusal(call, missing, self._sites.here, found=True):
            return refused
        headers = CIMultiDict(first.headers)
        headers[SITE] = ",".join(sites)
        if missing:
            headers[MISSING] = ",".join(missing)
        return Reply(200, headers, orjson.dumps(body), headers[SITE])

    async def _usage(self, call: Call, among: Sequence[str]) -> Reply:
        """Return one page of usage: the servers of one site after those of another.

        Nova counts servers, which an answer need not show; only the link to the next page names the last server of a page. So the gateway
        looks for a marker at all sites. The page begins at the site that knows the marker, and continues at the sites that follow.
        """
        query = parse_qsl(call.query, keep_blank_values=True)
        rest = [pair for pair in query if pair[0] not in {"limit", "marker"}]
        limit, marker = dict(query).get("limit", str(MAX_PAGE)), dict(query).get("marker")
        left = min(int(limit), MAX_PAGE) if limit.isascii() and limit.isdigit() else 0
        if left == 0:
            answer = await self._try(among[0], call)  # the site's own answer to an empty or invalid request
            return answer if answer is not None else unreachable(call.service, among[:1], self._sites.here)
        pages = _Pages(left)
        order = list(among)
        if marker is not None:
            order, refused = await self._from_marker(call, [*rest, ("limit", str(left))], marker, order, pages)
            if refused is not None:
                return refused
        for site in order:
            if pages.left == 0:
                break
            reply = await self._try(site, call.with_(query=urlencode([*rest, ("limit", str(pages.left))])))
            if reply is not None and reply.status != 200 and not pages.replies:
                return reply
            pages.add(site, reply)
        if not pages.replies:
            return unreachable(call.service, pages.missing, self._sites.here)
        body = tenant_usage({reply.site: reply.json() for reply in pages.replies}, pages.missing)
        links = "tenant_usages_links" if "tenant_usages" in body else "tenant_usage_links"
        body.pop(links, None)
        if pages.left == 0 and pages.last:
            body[links] = next_link(call, query, pages.last)
        return self._reply(call, pages.replies[0], [reply.site for reply in pages.replies], pages.missing, body)

    async def _from_marker(
        self, call: Call, query: list[tuple[str, str]], marker: str, among: list[str], pages: _Pages
    ) -> tuple[list[str], Reply | None]:
        """Begin a page at the site that knows its marker.

        Returns:
            The sites that follow the site of the marker; and the answer, if there is no page.
        """
        asked = call.with_(query=urlencode([*query, ("marker", marker)]))
        replies = await asyncio.gather(*(self._try(site, asked) for site in among))
        for index, reply in enumerate(replies):
            if reply is not None and reply.status == 200:
                pages.add(among[index], reply)
                return among[index + 1 :], None
        missing = [site for site, reply in zip(among, replies, strict=True) if reply is None]
        refused = next((reply for reply in replies if reply is not None), None)
        return [], unreachable(call.service, missing, self._sites.here) if missing or refused is None else refused

    async def _try(self, site: str, call: Call) -> Reply | None:
        try:
            return await self._sites.send(site, call, ANSWER_S)
        except Unreachable as error:
            LOG.info("%s: %s", call.request_id, error)
            return None


class _Pages:
    """One page of usage, collected from several sites.

    Args:
        left: the number of servers that the page may still take.
    """

    def __init__(self, left: int) -> None:
        self.left = left
        self.last = ""
        self.replies: list[Reply] = []
        self.missing: list[str] = []

    def add(self, site: str, reply: Reply | None) -> None:
        """Add a site's answer; `None` if the site did not answer."""
        if reply is None or reply.status != 200:
            self.missing.append(site)
            return
        self.replies.append(reply)
        body = reply.json()
        links = body.get("tenant_usages_links") or body.get("tenant_usage_links")
        if links:  # a link to a next page means that Nova has counted as many servers as the limit allows
            self.left = 0
            self.last = dict(parse_qsl(urlsplit(links[0]["href"]).query)).get("marker", "")
        else:
            self.left -= _servers(body)


def _servers(body: Any) -> int:
    """Return the number of servers that an answer lists.

    Servers of a project for which the answer shows only a total are not counted, so that the page becomes longer.
    """
    usages = body.get("tenant_usages") or [body.get("tenant_usage") or {}]
    return sum(len(usage.get("server_usages", ())) for usage in usages)
