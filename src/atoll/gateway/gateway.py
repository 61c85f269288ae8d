"""Decides where a request belongs, and has it answered there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import orjson
from multidict import CIMultiDict

from atoll.gateway import scope as scopes
from atoll.gateway.call import Call, Reply, Unreachable
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.headers import MISSING, SITE
from atoll.gateway.lists import ANSWER_S, Lists
from atoll.gateway.locate import Found, Locations, search
from atoll.gateway.merge import MERGERS
from atoll.gateway.placing import creation
from atoll.gateway.routes import Operation, Resource, Route, is_uuid, match
from atoll.gateway.sites import Mesh, Sites, Upstream

LOG = logging.getLogger(__name__)

Answer = Reply | Upstream

_TRY_NEXT = frozenset((403, 404, 409, 413, 429, 500, 501, 502, 503, 504))
"""Answers of a site after which `||` tries the next one. What is wrong with the request itself (400) is so everywhere."""


class Replicator(Protocol):
    """What keeps copies together; see `atoll.gateway.replicate`."""

    async def everywhere(self, call: Call, sites: Sequence[str]) -> Reply:
        """Send a change to all who may hold what it is about; those that can't be reached get it later."""

    async def create(self, call: Call, sites: Sequence[str]) -> Reply:
        """Make the same thing at several sites, or at none."""


class Bringer(Protocol):
    """What brings along what a request refers to; see `atoll.gateway.bring`."""

    async def missing(self, call: Call) -> Sequence[Any]:
        """What the request refers to and this site lacks."""

    async def bring(self, references: Sequence[Any], token: str) -> Callable[[], Awaitable[None]] | None:
        """Fetch it; returns what takes it away again."""


class Gateway:
    """The gateway of one site.

    Args:
        sites: to ask.
        mesh: who there is.
        replicate: see `Replicator`; without it each thing is at one site.
        bringer: see `Bringer`; without it a request is answered with what the site has.
    """

    def __init__(self, sites: Sites, mesh: Mesh, *, replicate: Replicator | None = None, bringer: Bringer | None = None) -> None:
        self.here = sites.here
        self.locations = Locations()
        self._sites = sites
        self._mesh = mesh
        self._replicate = replicate
        self._bringer = bringer
        self._lists = Lists(sites, self.locations.learn)

    async def answer(self, call: Call, scope: str | None = None, prefix: str = "") -> Answer:
        """Answer a client.

        Args:
            call: the request.
            scope: where it is to be looked for or made, in the scope language.
            prefix: of the URL, if the scope was there: what the catalogue leads to is to have it too.

        Raises:
            ScopeError: the scope makes no sense.
            Unreachable: a site that is needed does not answer.
        """
        route = match(call.method, call.service, call.path)
        plan = self._plan(scope, call.service) if scope else None
        if plan is None and (route.operation is Operation.LOCAL or not self._sites.others()):
            answer = await self.local(call)
        else:
            among = list(plan.sites) if plan else self._sites.everywhere()
            answer = await self._dispatch(call, route, among, plan)
        return await _rewritten(answer, prefix) if prefix and call.service == "identity" else answer

    async def local(self, call: Call) -> Answer:
        """Answer from this site's own services; what the request refers to is brought here if it must.

        Raises:
            Unreachable: the service does not answer.
        """
        answer = await self._sites.open(self.here, call)
        if self._bringer is None or answer.status not in {400, 404} or call.method != "POST" or not call.repeatable:
            return answer
        if call.service not in {"compute", "network"}:
            return answer
        refused = await answer.read()
        references = await self._bringer.missing(call)
        if not references:
            return refused
        LOG.info("%s: %s %s needs %s", call.request_id, call.method, call.path, references)
        undo = await self._bringer.bring(references, call.token)
        reply = await self._sites.send(self.here, call, timeout_s=600)
        if not reply.ok and undo is not None:
            await undo()
        return reply

    def _plan(self, scope: str, service: str) -> scopes.Plan | None:
        members = {self.here, *self._sites.others()}
        return scopes.evaluate(_parsed(scope), service, members, self._mesh.rtt_ms)

    async def _dispatch(self, call: Call, route: Route, among: list[str], plan: scopes.Plan | None) -> Answer:
        operation = route.operation
        if operation is Operation.LIST and len(among) > 1:
            return await self._lists.union(call, route, among)
        if operation is Operation.MERGE and len(among) > 1:
            return await self._merge(call, route, among)
        if operation is Operation.CREATE:
            return await self._create(call, route, plan)
        if operation is Operation.ITEM or (operation is Operation.EVERYWHERE and self._replicate is None and route.id):
            return await self._item(call, route, among)
        if operation is Operation.EVERYWHERE and self._replicate is not None:
            # Wherever the scope leads: copies of one thing must not become different.
            return await self._replicate.everywhere(call, self._sites.everywhere())
        return await self._at(among[0], call)

    async def _at(self, site: str, call: Call) -> Answer:
        return await self.local(call) if site == self.here else await self._sites.open(site, call)

    async def _item(self, call: Call, route: Route, among: list[str]) -> Answer:
        """One resource: at the site that is known to have it, else here, else wherever it is."""
        resource = route.resource
        assert resource is not None
        known = self.locations.get(route.id)
        known = known if known in among else None
        if known is None and not call.repeatable and (held := await self._holder(call, route, among)).reply is not None:
            known = held.reply.site
        first = known or (self.here if self.here in among else among[0])
        try:
            answer = await self._at(first, call)
        except Unreachable:
            if not resource.copies or not call.repeatable:
                raise
            not_found = None
        else:
            if answer.status != 404:
                self.locations.learn([(route.id, first)])
                return answer
            # Nothing moves: where it was, it has been deleted. And a name is nobody's id.
            if (known is not None and not resource.copies) or len(among) == 1 or (resource.uuid and not is_uuid(route.id)):
                return answer
            not_found = await answer.read()
        return await self._elsewhere(call, route, [site for site in among if site != first], not_found, was_here=known == self.here)

    async def _elsewhere(self, call: Call, route: Route, rest: list[str], not_found: Reply | None, *, was_here: bool) -> Answer:
        reads = call.method in {"GET", "HEAD"} and not (route.child and call.service == "image")  # an image's data is not held in memory
        found = await search(self._sites, call, rest) if reads else await self._holder(call, route, rest)
        if found.reply is not None:
            self.locations.learn([(route.id, found.reply.site)])
            return found.reply if reads else await self._at(found.reply.site, call)
        if not_found is None or (found.missing and is_uuid(route.id) and not was_here):
            return unreachable(call.service, found.missing or rest, self.here)
        if found.missing:
            not_found.headers[MISSING] = ",".join(found.missing)
        return not_found

    async def _holder(self, call: Call, route: Route, among: Sequence[str]) -> Found:
        """Look for a resource without changing it."""
        return await search(self._sites, _look(call, route.base), among)

    async def _create(self, call: Call, route: Route, plan: scopes.Plan | None) -> Answer:
        resource = route.resource
        assert resource is not None
        made = creation(call, resource, {self.here, *self._sites.others()})
        if made.site is not None:
            return await self._make(made.site, made.call, resource)
        if plan is not None:
            return await self._choose(made.call, resource, plan)
        known = next((site for _field, _path, identifier in made.parents if (site := self.locations.get(identifier))), None)
        reply = await self._make(known or self.here, made.call, resource)
        if reply.status == 404 and known is None and made.parents:
            for _field, path, _identifier in made.parents:
                found = await search(self._sites, _look(call, path), self._sites.others())
                if found.reply is not None and found.reply.status == 200:
                    return await self._make(found.reply.site, made.call, resource)
                if found.missing:
                    return unreachable(call.service, found.missing, self.here)
        return reply

    async def _choose(self, call: Call, resource: Resource, plan: scopes.Plan) -> Reply:
        """The first choice that works."""
        reply: Reply | None = None
        failure: Unreachable | None = None
        for choice in plan.choices:
            try:
                if len(choice) == 1:
                    reply = await self._make(choice[0], call, resource)
                elif self._replicate is None:
                    return fault(call.service, 400, "this gateway can't make the same thing at several sites", self.here)
                else:
                    reply = await self._replicate.create(call, choice)
            except Unreachable as error:
                if error.sent:
                    raise  # it may have been made there: a second one elsewhere would be one too many
                failure = error
            else:
                if reply.status not in _TRY_NEXT:
                    return reply
        if reply is None:
            assert failure is not None, "a plan has choices"
            raise failure
        return reply

    async def _make(self, site: str, call: Call, resource: Resource) -> Reply:
        answer = await self._at(site, call)
        reply = answer if isinstance(answer, Reply) else await answer.read()
        if reply.ok:
            self.locations.learn([(identifier, site) for identifier in _identifiers(reply, resource)])
        return reply

    async def _merge(self, call: Call, route: Route, among: list[str]) -> Reply:
        replies = await asyncio.gather(*(self._try(site, call) for site in among))
        first = next((reply for reply in replies if reply is not None), None)
        if first is None:
            return unreachable(call.service, among, self.here)
        if first.status != 200:
            return first
        bodies = {reply.site: reply.json() for reply in replies if reply is not None and reply.status == 200}
        missing = [site for site in among if site not in bodies]
        headers = CIMultiDict(first.headers)
        headers[SITE] = ",".join(bodies)
        if missing:
            headers[MISSING] = ",".join(missing)
        return Reply(200, headers, orjson.dumps(MERGERS[route.name](bodies, missing)), headers[SITE])

    async def _try(self, site: str, call: Call) -> Reply | None:
        try:
            return await self._sites.send(site, call, ANSWER_S)
        except Unreachable as error:
            LOG.info("%s: %s", call.request_id, error)
            return None


@lru_cache(maxsize=256)
def _parsed(text: str) -> scopes.Scope:
    return scopes.parse(text)


def _look(call: Call, path: str) -> Call:
    return call.with_(method="GET", path=path, query="", body=None)


def _identifiers(reply: Reply, resource: Resource) -> list[str]:
    """The ids in the answer to a creation: of one thing, or of several."""
    try:
        body = reply.json()
        made = [body[resource.item]] if resource.item in body else body.get(resource.key) or [body]
        return [each["id"] for each in made if isinstance(each.get("id"), str)]
    except (ValueError, AttributeError, TypeError):
        return []


async def _rewritten(answer: Answer, prefix: str) -> Answer:
    """An answer of Keystone whose catalogue leads back to the scope that the client is in."""
    reply = answer if isinstance(answer, Reply) else await answer.read()
    return Reply(reply.status, reply.headers, scopes.rewrite_catalogue(reply.body, prefix), reply.site)
