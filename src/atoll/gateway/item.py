"""Answers a request about one resource: finds the site that has it, and asks that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.faults import unreachable
from atoll.gateway.lists.away import Away
from atoll.gateway.local import Answer, Local
from atoll.gateway.request.call import Reply, Unreachable
from atoll.gateway.request.context import Request
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve.locate import Found, Locations, proves, search
from atoll.gateway.resolve.routes import Route, named
from atoll.gateway.sites import Sites

_READS = frozenset(("GET", "HEAD"))


class Items:
    """Answers requests about single resources.

    Args:
        sites: to ask.
        locations: which site holds which id.
        local: the services of this site.

    Attributes:
        away: knows servers of sites that do not answer; without it nothing is known of them.
        clashes: knows names that sites have given to different things; without it there are none.
    """

    def __init__(self, sites: Sites, locations: Locations, local: Local) -> None:
        self._sites = sites
        self._locations = locations
        self._local = local
        self.away: Away | None = None
        self.clashes: Clashes | None = None

    async def answer(self, request: Request) -> Answer:
        """Ask the site that is known to have the resource, else this one, else all others.

        If that site is away, what is known of a server is shown.

        Raises:
            Unreachable: the site that is known to have it does not answer.
        """
        if self.away is None or not self.away.concerns(request.route):
            return await self._find(request)
        try:
            answer = await self._find(request)
        except Unreachable as error:
            known = await self.away.show(request.call, request.route, [error.site])
            if known is None:
                raise
            return known
        return await self.away.heed(request.call, request.route, answer)

    async def _find(self, request: Request) -> Answer:
        call, route, among, resource = request.call, request.route, request.among, request.resource
        here = self._sites.here
        known = self._locations.get(resource, route.id)
        known = known if known in among else None
        if self.clashes is not None and (refused := self.clashes.refusal(call, known or among[0])) is not None:
            return refused
        if known is None and not call.repeatable and (held := await self._holder(request, among)).reply is not None:
            known = held.reply.site
        first = known or (here if here in among else among[0])
        try:
            answer = await self._local.at(first, call)
        except Unreachable:
            if not resource.copies or not call.repeatable:
                raise
            not_found = None
        else:
            if answer.status != 404:
                self._note(route, answer.status, first)
                return answer
            # Hardly anything moves: where it was, it has been deleted. And a name is nobody's id.
            stays = not resource.copies and not resource.moves
            if (known is not None and stays) or len(among) == 1 or (resource.uuid and not is_uuid(route.id)):
                return answer
            not_found = answer if isinstance(answer, Reply) else await answer.read()
        return await self._elsewhere(request, [site for site in among if site != first], not_found, was_here=known == here)

    async def _elsewhere(self, request: Request, rest: Sequence[str], not_found: Reply | None, *, was_here: bool) -> Answer:
        call, route = request.call, request.route
        reads = call.method in _READS and not (route.child and call.service == "image")  # an image's data is not held in memory
        found = await search(self._sites, call, rest, oldest=_numbered(request)) if reads else await self._holder(request, rest)
        if found.reply is not None:
            self._note(route if reads else replace(route, child=False), found.reply.status, found.reply.site)
            return found.reply if reads else await self._local.at(found.reply.site, call)
        if not_found is None or (found.missing and (is_uuid(route.id) or named(route)) and not was_here):
            return unreachable(call.service, found.missing or rest, self._sites.here)
        if found.missing:
            not_found.headers[MISSING] = ",".join(found.missing)
        return not_found

    async def _holder(self, request: Request, among: Sequence[str]) -> Found:
        """Look for a resource without changing it."""
        return await search(self._sites, request.call.look(request.route.base), among)

    def _note(self, route: Route, status: int, site: str) -> None:
        """Remember the site of a resource, if the site's answer proves that it holds it."""
        if route.resource is not None and proves(route, status):
            self._locations.learn(route.resource, [(route.id, site)])


def _numbered(request: Request) -> bool:
    """Whether each copy has a revision number of its own, which a condition may name: then it matters which copy is shown."""
    return request.resource.copies and request.call.service == "network"
