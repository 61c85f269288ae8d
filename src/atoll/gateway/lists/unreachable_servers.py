"""Shows the servers of unreachable sites, as Nova shows those of cells that are down.

Nova's microversion 2.69 (`nova.api.openstack.compute.servers._is_cell_down_supported`, `views.servers._show_from_down_cell`) lists a server
of such a cell with the status UNKNOWN and the few fields that Nova has in its API database. It does so if the request has no filter but
`all_tenants`, no sort key and no page. Before 2.69, and in any other list, it leaves the server out. Here a site takes the place of a cell,
and this gateway's `server_cache` takes the place of the API database. The answer also has a name and a zone, which Nova lacks in that
case.

Keystone's confirmation of the token decides who may see a server: members of its project, and administrators unless other sites do not
accept the administrators of this one (`trust`). Whether the token may be used for the request at all is decided by Nova, since it may be
revoked, or belong to an application credential with access rules: for a list by each Nova that has answered, for one server by this site's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from atoll.gateway.lists.order import Item
from atoll.gateway.lists.paging import links_of
from atoll.gateway.lists.server_cache import CachedServer, ServerCache
from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply
from atoll.gateway.request.headers import MISSING, microversion
from atoll.gateway.request.requester import Requester, Requesters
from atoll.gateway.resolve.routes import COMPUTE, Route
from atoll.gateway.sites import Sites, StreamedReply

SINCE = (2, 69)
"""Nova's first microversion that shows servers of cells that are down."""

UNKNOWN = "UNKNOWN"

_READER = "reader"
_TRUE = frozenset(("1", "t", "true", "on", "y", "yes"))
"""Texts that Nova takes for `True` (`oslo_utils.strutils.TRUE_STRINGS`)."""


class UnreachableServers:
    """The cached servers of sites that do not answer.

    Args:
        seen: the cache of servers.
        requesters: finds out who makes a request.
        sites: sends requests to this site's Nova.
        all_projects: `True` if administrators of this site see all projects' servers at the other sites.
    """

    def __init__(self, seen: ServerCache, requesters: Requesters, sites: Sites, *, all_projects: bool = True) -> None:
        self._seen = seen
        self._requesters = requesters
        self._sites = sites
        self._here = sites.here
        self._all_projects = all_projects
        self._tasks: set[asyncio.Task[None]] = set()

    # Filling the cache

    def learn(self, call: Call, query: Sequence[tuple[str, str]], read: Mapping[str, Sequence[Item]], whole: Iterable[str]) -> None:
        """Cache the servers in the answers to a list request; the client does not wait for it.

        Args:
            call: the request.
            query: the request's parameters.
            read: the items that each site has answered.
            whole: the sites whose list is complete.
        """
        if whole := [site for site in whole if site in read and plain(query)]:
            task = asyncio.get_running_loop().create_task(self._forget_others(call, query, {site: read[site] for site in whole}))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for site, items in read.items():
            if site != self._here:
                self._seen.see(site, items)

    async def _forget_others(self, call: Call, query: Sequence[tuple[str, str]], lists: Mapping[str, Sequence[Item]]) -> None:
        requester = None if _all_tenants(query) else await self._requesters.of(call)
        project = requester.project if requester is not None else ""
        for site, items in lists.items():
            if project or _all_tenants(query):
                self._seen.forget_others(site, project or None, {str(item.get("id")) for item in items})

    @staticmethod
    def concerns(route: Route) -> bool:
        """Return whether a request is about one server itself, not about a resource below it."""
        return route.resource is COMPUTE["servers"] and not route.child

    async def observe(self, call: Call, route: Route, answer: Reply | StreamedReply) -> Reply | StreamedReply:
        """Cache another site's answer about one server.

        Args:
            call: the request.
            route: the request's route; see `concerns`.
            answer: the answer.

        Returns:
            The answer, read if necessary; or the cached server if its site does not answer.

        Raises:
            Unreachable: the answer broke off.
        """
        if answer.status == 503 and MISSING in answer.headers:
            return await self.show(call, route, answer.headers[MISSING].split(",")) or answer
        if answer.status == 404:
            await self._not_found(call, route.id)
        elif call.method == "DELETE" and answer.status < 300:
            self._seen.forget([route.id])
        elif answer.site != self._here and answer.status == 200 and call.method == "GET":
            answer = answer if isinstance(answer, Reply) else await answer.read()
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                self._seen.see(answer.site, [orjson.loads(answer.body)["server"]])
        return answer

    async def _not_found(self, call: Call, identifier: str) -> None:
        """Remove a server from the cache after a 404, if the user would see the server; Nova answers 404 to other users too."""
        server = self._seen.get(identifier)
        if server is None:
            return
        requester = await self._requesters.of(call)
        if requester is not None and self._may_see(requester, server):
            self._seen.forget([identifier])

    # Showing cached servers

    async def list(self, call: Call, route: Route, query: Sequence[tuple[str, str]], sites: Sequence[str]) -> list[Item]:
        """Return the cached servers of sites that do not answer, for a list.

        Args:
            call: the request, which another site's Nova has accepted.
            route: the request's route.
            query: the request's parameters.
            sites: the sites that do not answer.
        """
        if microversion(call.headers) < SINCE or not plain(query):
            return []
        requester = await self._requesters.of(call)
        if requester is None:
            return []
        project: str | None = requester.project
        if _all_tenants(query):
            if not (requester.is_admin and self._all_projects):
                return []
            project = None
        elif not project:
            return []
        return [_item(call, route.base, server) for server in self._seen.of(sites, project)]

    async def show(self, call: Call, route: Route, missing: Sequence[str]) -> Reply | None:
        """Return the cached fields of one server; `None` if there are none, or the user may not see them.

        Args:
            call: the request.
            route: the request's route.
            missing: the sites that do not answer.
        """
        if not self.concerns(route) or call.method != "GET" or microversion(call.headers) < SINCE:
            return None
        server = self._seen.get(route.id)
        if server is None or server.site not in missing or not await self._may_ask(call):
            return None
        requester = await self._requesters.of(call)
        if requester is None or not self._may_see(requester, server):
            return None
        base = route.base.rpartition("/")[0]
        shown = _item(call, base, server) | _more(call, base, server)
        reply = json_reply(200, {"server": shown}, self._here)
        reply.headers[MISSING] = ",".join(missing)
        return reply

    async def _may_ask(self, call: Call) -> bool:
        """Return whether policy lets the user show servers: this site's Nova, which lacks this one, then answers 404, and otherwise 403."""
        try:
            return (await self._sites.send(self._here, call)).status == 404
        except Unreachable:
            return False

    def _may_see(self, requester: Requester, server: CachedServer) -> bool:
        if requester.project == server.project and _READER in requester.roles:
            return True
        return requester.is_admin and self._all_projects


def plain(query: Sequence[tuple[str, str]]) -> bool:
    """Return whether a list of servers has no sort key, no page and no filter, except for filters that leave nothing out."""
    return all(name == "all_tenants" or (name == "deleted" and value.strip().lower() not in _TRUE) for name, value in query)


def _all_tenants(query: Sequence[tuple[str, str]]) -> bool:
    value = dict(query).get("all_tenants", "0").strip().lower()
    return value in _TRUE or value == ""  # as nova.api.openstack.common.is_all_tenants reads it


def _item(call: Call, base: str, server: CachedServer) -> dict[str, Any]:
    """Return a cached server with the fields of a list with details."""
    return {
        "id": server.id,
        "name": server.name,
        "status": UNKNOWN,
        "tenant_id": server.project,
        "created": server.created,
        "links": links_of(call, base, server.id),
        "OS-EXT-AZ:availability_zone": server.site,
    }


def _more(call: Call, base: str, server: CachedServer) -> dict[str, Any]:
    """Return the further fields that only the answer about one server has."""
    more: dict[str, Any] = {"user_id": server.user, "OS-EXT-STS:power_state": 0}
    if server.image is not None:
        images = base.removesuffix("/servers") + "/images"
        more["image"] = {"id": server.image, "links": links_of(call, images, server.image)[1:]} if server.image else ""
    if server.flavor is not None:
        more["flavor"] = json.loads(server.flavor)
    return more
