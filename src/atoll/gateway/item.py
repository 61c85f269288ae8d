"""Answers requests about one resource: finds the site that holds it, and forwards the request to that site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.faults import unreachable
from atoll.gateway.lists.unreachable_servers import UnreachableServers
from atoll.gateway.local import Answer, LocalServices
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.context import Request
from atoll.gateway.request.headers import MISSING, MOVED
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve.locate import Locations, SearchResult, proves, search
from atoll.gateway.resolve.routes import Route, named
from atoll.gateway.sites import Sites, StreamedReply

_READS = frozenset(("GET", "HEAD"))


class Items:
    """The handler of requests about single resources.

    Args:
        sites: sends requests to the sites of the cloud.
        locations: the sites of the resources that this gateway has seen.
        local: the services of this site.
        clashes: the names that several sites have given to different resources.
        unreachable: the last known state of servers at sites that do not answer.
    """

    def __init__(
        self, sites: Sites, locations: Locations, local: LocalServices, clashes: NameClashes, unreachable: UnreachableServers
    ) -> None:
        self._sites = sites
        self._locations = locations
        self._local = local
        self._clashes = clashes
        self._unreachable = unreachable

    async def answer(self, request: Request) -> Answer:
        """Ask the site that is known to hold the resource; if none is known, ask this site, then all others.

        If the site of a server does not answer, return the server's last known state.

        Raises:
            Unreachable: the site that holds the resource does not answer.
        """
        if not self._unreachable.concerns(request.route):
            return await self._find(request)
        try:
            answer = await self._find(request)
        except Unreachable as error:
            known = await self._unreachable.show(request.call, request.route, [error.site])
            if known is None:
                raise
            return known
        return await self._unreachable.observe(request.call, request.route, answer)

    async def _find(self, request: Request) -> Answer:
        call, route, among, resource = request.call, request.route, request.among, request.resource
        here = self._sites.here
        known = self._locations.get(resource, route.id)
        known = known if known in among else None
        if (refused := self._clashes.refusal(call, known or among[0])) is not None:
            return refused
        if known is None and not call.repeatable and (held := await self._holder(request, among)).reply is not None:
            known = held.reply.site
        first = known or (here if here in among else among[0])
        try:
            answer = await self._local.at(first, call)
            if answer.status == 404 and MOVED in answer.headers:
                first, answer = await self._followed(call, first, answer, among)
        except Unreachable:
            if not resource.copies or not call.repeatable:
                raise
            not_found = None
        else:
            if answer.status != 404:
                self._note(route, answer.status, first)
                return answer
            # A resource that can't move and is missing at its known site was deleted. If a name was given instead of an id, no site has it.
            stays = not resource.copies and not resource.moves
            if (known is not None and stays) or len(among) == 1 or (resource.uuid and not is_uuid(route.id)):
                return answer
            not_found = answer if isinstance(answer, Reply) else await answer.read()
        return await self._elsewhere(request, [site for site in among if site != first], not_found, was_here=known == here)

    async def _followed(self, call: Call, site: str, answer: Answer, among: Sequence[str]) -> tuple[str, Answer]:
        """Follow a server to the sites to which it was handed off, as long as each names the next one.

        Returns:
            The last site that was asked, and its answer.

        Raises:
            Unreachable: a site does not answer.
        """
        asked = {site}
        while answer.status == 404 and call.repeatable:
            to = answer.headers.get(MOVED, "")
            if to in asked or to not in among:
                break
            if isinstance(answer, StreamedReply):
                answer.close()
            asked.add(to)
            site, answer = to, await self._local.at(to, call)
        return site, answer

    async def _elsewhere(self, request: Request, rest: Sequence[str], not_found: Reply | None, *, was_here: bool) -> Answer:
        """Ask the other sites.

        Args:
            request: the client's request.
            rest: the sites that were not asked yet.
            not_found: the 404 of the site that was asked first; `None` if it did not answer.
            was_here: whether this site is known to have held the resource; then 404 is right even if another site does not answer.
        """
        call, route = request.call, request.route
        reads = call.method in _READS and not (route.child and call.service == "image")  # image data is not held in memory
        found = await search(self._sites, call, rest, oldest=_numbered(request)) if reads else await self._holder(request, rest)
        if found.reply is not None:
            self._note(route if reads else replace(route, child=False), found.reply.status, found.reply.site)
            return found.reply if reads else await self._local.at(found.reply.site, call)
        if not_found is None or (found.missing and (is_uuid(route.id) or named(route)) and not was_here):
            if found.reason is not None:
                return found.reason
            return unreachable(call.service, found.missing or rest, self._sites.here)
        if found.missing:
            not_found.headers[MISSING] = ",".join(found.missing)
        return not_found

    async def _holder(self, request: Request, among: Sequence[str]) -> SearchResult:
        """Find, with a request that changes nothing, the site that holds a resource."""
        return await search(self._sites, request.call.look(request.route.base), among)

    def _note(self, route: Route, status: int, site: str) -> None:
        """Remember the site of a resource if the status of its answer proves that it holds the resource."""
        if route.resource is not None and proves(route, status):
            self._locations.learn(route.resource, [(route.id, site)])


def _numbered(request: Request) -> bool:
    """Return whether each copy has its own revision number; then a condition with the shown number holds for the shown copy alone."""
    return request.resource.copies and request.call.service == "network"
