"""Decides where a request belongs, and has it answered there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import orjson
from multidict import CIMultiDict

from atoll.gateway import scope as scopes
from atoll.gateway.bring import Bringer
from atoll.gateway.console import url as console_url
from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.copies.replicas import Replicas
from atoll.gateway.faults import unreachable
from atoll.gateway.lists.lists import ANSWER_S, Lists
from atoll.gateway.lists.merge import MERGERS
from atoll.gateway.local import Answer, Local
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import IDENTITY, MISSING, SITE, microversion
from atoll.gateway.resolve.locate import Found, Locations, holders, proves, search
from atoll.gateway.resolve.placing import Creation, creation
from atoll.gateway.resolve.routes import LOCAL, NEVER, Operation, Resource, Route, is_uuid, match
from atoll.gateway.resolve.unique import wanted
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)


class Gateway:
    """The gateway of one site.

    Args:
        sites: to ask.
        mesh: who there is.

    Attributes:
        sites: to ask.
        replicas: without it each thing is at one site. It needs `create_at`, and so is given when the gateway is made.
        clashes: keeps names unique in the cloud; without it they are so at each site.
        on_reply: told of requests that more than this site's own services had to do with, and of what was answered.
        locations: which site holds which id, as far as this gateway knows.
    """

    def __init__(self, sites: Sites, mesh: Mesh) -> None:
        self.here = sites.here
        self.locations = Locations()
        self.sites = sites
        self._mesh = mesh
        self.replicas: Replicas | None = None
        self.clashes: Clashes | None = None
        self._local = Local(sites)
        self.on_reply: Callable[[Call, Reply], None] | None = None
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
        counted_before = route.resource.counted_before if route.resource is not None else NEVER
        if counted_before > NEVER and counted_before > microversion(call.headers):
            route = LOCAL  # each site counts these ids for itself, and 1 is another thing at each
        plan = self._plan(scope, call.service) if scope else None
        everywhere = [self.here] if plan or route.operation is Operation.LOCAL else self.sites.everywhere()
        among = list(plan.sites) if plan else everywhere
        if plan is None and len(among) == 1 and route.operation not in {Operation.CREATE, Operation.EVERYWHERE}:
            answer = await self.local(call)
        else:
            answer = await self._dispatch(call, route, among, plan)
            if self.on_reply is not None and isinstance(answer, Reply):
                self.on_reply(call, answer)
            answer.headers.popall(IDENTITY, None)
        if self.clashes is not None:
            self.clashes.mark(call, route, answer)
        if console_url.asked_for(call) and answer.status == 200:
            whole = answer if isinstance(answer, Reply) else await answer.read()
            return console_url.led_here(whole, call.headers["X-Forwarded-Host"])
        return await _rewritten(answer, prefix) if prefix and call.service == "identity" else answer

    async def local(self, call: Call) -> Answer:
        """Answer from this site's own services; see `Local.answer`.

        Raises:
            Unreachable: the service does not answer.
        """
        return await self._local.answer(call)

    @property
    def bringer(self) -> Bringer | None:
        """What brings things here; without it a request is answered with what the site has."""
        return self._local.bringer

    @bringer.setter
    def bringer(self, bringer: Bringer) -> None:
        self._local.bringer = bringer

    def _plan(self, scope: str, service: str) -> scopes.Plan | None:
        members = {self.here, *self.sites.others()}
        return scopes.evaluate(_parsed(scope), service, members, self._mesh.rtt_ms)

    async def _dispatch(self, call: Call, route: Route, among: list[str], plan: scopes.Plan | None) -> Answer:
        operation = route.operation
        if operation in {Operation.LIST, Operation.MERGE} and len(among) > 1:
            return await (self._merge if operation is Operation.MERGE else self._lists.union)(call, route, among)
        if operation is Operation.CREATE:
            return await self._create(call, route, plan)
        if self.replicas is not None and route.id and (group := self.replicas.group(route.id)) is not None:
            return await self.replicas.relay(call, group, route.id)
        if operation is Operation.EVERYWHERE and self.replicas is not None:
            # Wherever the scope leads: copies of one thing must not become different.
            return await self._everywhere(call, route, self.replicas, plan)
        if route.id:
            return await self._item(call, route, among)
        return await self._at(among[0], call)

    async def _everywhere(self, call: Call, route: Route, replicas: Replicas, plan: scopes.Plan | None) -> Reply:
        """Change something at all sites that may hold the same."""
        if self.bringer is not None and (refused := await self.bringer.policies.refusal_to_unshare(call)) is not None:
            return refused
        sites: list[str] | Reply = self.sites.everywhere()
        if self.clashes is not None:
            sites = self.clashes.sites_for(call, route, self.sites.everywhere(), plan.sites if plan else None)
        return sites if isinstance(sites, Reply) else await replicas.everywhere(call, sites)

    async def _at(self, site: str, call: Call) -> Answer:
        return await self.local(call) if site == self.here else await self.sites.open(site, call)

    async def _item(self, call: Call, route: Route, among: list[str]) -> Answer:
        """One resource: at the site that is known to have it, else here, else wherever it is."""
        resource = route.resource
        assert resource is not None
        known = self.locations.get(resource, route.id)
        known = known if known in among else None
        if self.clashes is not None and (refused := self.clashes.refusal(call, known or among[0])) is not None:
            return refused
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
                self._note(route, answer.status, first)
                return answer
            # Nothing moves: where it was, it has been deleted. And a name is nobody's id.
            if (known is not None and not resource.copies) or len(among) == 1 or (resource.uuid and not is_uuid(route.id)):
                return answer
            not_found = answer if isinstance(answer, Reply) else await answer.read()
        return await self._elsewhere(call, route, [site for site in among if site != first], not_found, was_here=known == self.here)

    async def _elsewhere(self, call: Call, route: Route, rest: list[str], not_found: Reply | None, *, was_here: bool) -> Answer:
        reads = call.method in {"GET", "HEAD"} and not (route.child and call.service == "image")  # an image's data is not held in memory
        found = await search(self.sites, call, rest) if reads else await self._holder(call, route, rest)
        if found.reply is not None:
            self._note(route if reads else replace(route, child=False), found.reply.status, found.reply.site)
            return found.reply if reads else await self._at(found.reply.site, call)
        if not_found is None or (found.missing and is_uuid(route.id) and not was_here):
            return unreachable(call.service, found.missing or rest, self.here)
        if found.missing:
            not_found.headers[MISSING] = ",".join(found.missing)
        return not_found

    def _note(self, route: Route, status: int, site: str) -> None:
        """Remember the site of a resource, if the site's answer proves that it holds it."""
        if route.resource is not None and proves(route, status):
            self.locations.learn(route.resource, [(route.id, site)])

    async def _holder(self, call: Call, route: Route, among: Sequence[str]) -> Found:
        """Look for a resource without changing it."""
        return await search(self.sites, _look(call, route.base), among)

    async def create_at(self, site: str, call: Call) -> Reply:
        """Make something at one site, which brings along what it lacks.

        Raises:
            Unreachable: the site does not answer.
        """
        answer = await self._at(site, call)
        reply = answer if isinstance(answer, Reply) else await answer.read()
        resource = match(call.method, call.service, call.path).resource
        if reply.ok and resource is not None:
            self.locations.learn(resource, [(identifier, site) for identifier in _identifiers(reply, resource)])
        return reply

    async def _create(self, call: Call, route: Route, plan: scopes.Plan | None) -> Reply:
        """Create something; what has a name of the whole cloud only once all sites have been asked for the name."""
        resource = route.resource
        assert resource is not None
        if self.clashes is not None and (names := wanted(call, resource)):
            return await self.clashes.names.create(call, names, lambda: self._create_named(call, resource, plan))
        return await self._create_named(call, resource, plan)

    async def _create_named(self, call: Call, resource: Resource, plan: scopes.Plan | None) -> Reply:
        made = creation(call, resource, {self.here, *self.sites.others()})
        if self.clashes is not None:
            for site in [made.site] if made.site is not None else plan.sites if plan else [self.here]:
                if (refused := self.clashes.refusal(call, site)) is not None:
                    return refused
        if resource.key == "rbac_policies" and plan is None and self.bringer is not None:
            return await self.create_at(await self.bringer.policies.site_for(made.call), made.call)
        if made.site is not None:
            return await self.create_at(made.site, made.call)
        if plan is not None and self.replicas is not None:
            return await self.replicas.create(made.call, resource, plan.choices)
        home = plan.sites[0] if plan else self.here
        if not made.parents:
            return await self.create_at(home, made.call)
        return await (self._create_part if resource.copies else self._create_at_parent)(made, resource, home)

    async def _create_at_parent(self, made: Creation, _resource: Resource, home: str) -> Reply:
        """A port of a network, a floating IP of a port: here if the whole is here, else where it is."""
        known = next((site for parent in made.parents if (site := self.locations.get(parent.resource, parent.id))), None)
        reply = await self.create_at(known or home, made.call)
        if reply.status == 404 and known is None:
            for parent in made.parents:
                found = await search(self.sites, _look(made.call, parent.path), [site for site in self.sites.everywhere() if site != home])
                if found.reply is not None and found.holds:
                    return await self.create_at(found.reply.site, made.call)
                if found.missing:
                    return unreachable(made.call.service, found.missing, self.here)
        return reply

    async def _create_part(self, made: Creation, resource: Resource, home: str) -> Reply:
        """A rule of a group, a subnet of a network: wherever there is a copy of the whole."""
        parent = made.parents[0]
        have, missing = await holders(self.sites, _look(made.call, parent.path), self.sites.everywhere())
        if have and len(have) + len(missing) > 1 and self.replicas is not None:
            # Who can't be asked may have a copy too, and makes this part of it later.
            return await self.replicas.create(made.call, resource, [self.sites.near_first(have)], missing)
        if not have and missing and is_uuid(parent.id):
            return unreachable(made.call.service, missing, self.here)
        return await self.create_at(have[0] if have else home, made.call)

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
            return await self.sites.send(site, call, ANSWER_S)
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
