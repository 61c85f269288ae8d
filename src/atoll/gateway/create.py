"""Has something made: at the site that the request names, at those of its scope, where what it belongs to is, or here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.local import Local
from atoll.gateway.request.bodies import items_of
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.context import Request
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.requester import Requesters
from atoll.gateway.resolve.locate import Locations, holders, search
from atoll.gateway.resolve.placing import Creation, Unplaceable, creation
from atoll.gateway.resolve.routes import Resource
from atoll.gateway.resolve.unique import Name, wanted
from atoll.gateway.scope import Plan
from atoll.gateway.sites import Sites

if TYPE_CHECKING:
    from atoll.gateway.copies.create import Creator

LOG = logging.getLogger(__name__)


class Creations:
    """Has things made.

    Args:
        sites: to ask.
        locations: told of what was made.
        local: the services of this site.

    Attributes:
        clashes: keeps names unique in the cloud; without it they are so at each site.
    """

    def __init__(self, sites: Sites, locations: Locations, local: Local) -> None:
        self._sites = sites
        self._locations = locations
        self._local = local
        self._requesters = Requesters(sites)
        self.clashes: Clashes | None = None

    async def at(self, site: str, call: Call, resource: Resource) -> Reply:
        """Make something at one site, which brings along what it lacks.

        Raises:
            Unreachable: the site does not answer.
        """
        answer = await self._local.at(site, call)
        reply = answer if isinstance(answer, Reply) else await answer.read()
        if reply.ok:
            self._locations.learn(resource, [(identifier, site) for identifier in _identifiers(reply, resource)])
        return reply

    async def create(self, request: Request, creator: Creator | None) -> Reply:
        """Make what a request asks for; what has a name of the whole cloud only once all sites have been asked for the name.

        Args:
            request: any creation.
            creator: makes the same at several sites.

        Raises:
            Unreachable: the site where it would have to be made does not answer.
        """
        names = wanted(request.call, request.resource) if self.clashes is not None else []
        if self.clashes is not None and names and await self._may_take(request.call, names):
            return await self.clashes.names.create(request.call, names, lambda: self._create(request, creator))
        return await self._create(request, creator)

    async def _may_take(self, call: Call, names: Sequence[Name]) -> bool:
        """Return whether a request's user may take names at all; else the service refuses it, and no site is asked who has them.

        Key pairs are each user's own. Names of all users are an administrator's: another user would learn from the refusal that a
        name is there, and take it for as long as the request lasts.
        """
        requester = await self._requesters.of(call)
        return requester is not None and (requester.is_admin or all(name.owner == requester.user for name in names))

    async def _create(self, request: Request, creator: Creator | None) -> Reply:
        resource, plan = request.resource, request.plan
        try:
            made = creation(request.call, resource, {self._sites.here, *self._sites.others()})
        except Unplaceable as error:
            return fault(request.call.service, 400, str(error), self._sites.here)
        if (refused := self._mistaken(made, plan)) is not None:
            return refused
        site = await self._site_of(made, resource, plan)
        if site is None and plan is not None and creator is not None:
            return await creator.create(made.call, resource, plan.choices)
        home = plan.sites[0] if plan else self._sites.here
        strange = made.call.user == "" and len(made.parents) > 1  # no site has signed the token: the service refuses it
        if site is not None or not made.parents or strange:
            return await self.at(site or home, made.call, resource)
        if resource.copies and made.whole:
            return await self._part(made, resource, home, creator)
        return await self._at_parent(made, resource, home)

    async def _site_of(self, made: Creation, resource: Resource, plan: Plan | None) -> str | None:
        """The site that a request names, or that its RBAC policy belongs to; `None`: any."""
        if resource.key == "rbac_policies" and plan is None and self._local.bringer is not None:
            return await self._local.bringer.policies.site_for(made.call)
        return made.site

    def _mistaken(self, made: Creation, plan: Plan | None) -> Reply | None:
        """The refusal of a request whose names mean something else at the site where it is made than at this one."""
        if self.clashes is None:
            return None
        sites = [made.site] if made.site is not None else plan.sites if plan else [self._sites.here]
        return next((refused for site in sites if (refused := self.clashes.refusal(made.call, site)) is not None), None)

    async def _at_parent(self, made: Creation, resource: Resource, home: str) -> Reply:
        """A port of a network, a floating IP of a port: here if the whole is here, else where it is."""
        # What has copies may be here as well, wherever it was seen.
        single = [parent for parent in made.parents if not parent.resource.copies]
        known = next((site for parent in single if (site := self._locations.get(parent.resource, parent.id))), None)
        reply = await self.at(known or home, made.call, resource)
        if reply.status == 404 and (known is None or any(parent.resource.moves for parent in made.parents)):
            asked = known or home
            for parent in made.parents:
                elsewhere = [site for site in self._sites.everywhere() if site != asked]
                found = await search(self._sites, made.call.look(parent.path), elsewhere)
                if found.reply is not None and found.holds:
                    return await self.at(found.reply.site, made.call, resource)
                if found.missing:
                    return unreachable(made.call.service, found.missing, self._sites.here)
        return reply

    async def _part(self, made: Creation, resource: Resource, home: str, creator: Creator | None) -> Reply:
        """Rules of groups, subnets of networks: wherever there is a copy of the whole."""
        everywhere = self._sites.everywhere()
        found = await asyncio.gather(*(holders(self._sites, made.call.look(parent.path), everywhere) for parent in made.parents))
        missing = sorted({site for _, away in found for site in away})
        # Of each site that has any of the wholes, the numbers of the things that belong to them.
        parts: dict[str, list[int]] = {}
        for number, whole in enumerate(made.whole):
            for site in found[whole][0]:
                parts.setdefault(site, []).append(number)
        if not parts:
            if missing and any(is_uuid(parent.id) for parent in made.parents):
                return unreachable(made.call.service, missing, self._sites.here)
            return await self.at(home, made.call, resource)
        complete = [site for site in self._sites.near_first(list(parts)) if len(parts[site]) == len(made.whole)]
        if not complete:
            return fault(made.call.service, 409, _apart(made, [held for held, _ in found]), self._sites.here)
        if len(parts) + len(missing) == 1 or creator is None:
            return await self.at(complete[0], made.call, resource)
        # Who can't be asked may have a copy too, and makes this part of it later.
        order = [*complete, *(site for site in self._sites.near_first(list(parts)) if site not in complete)]
        return await creator.create(made.call, resource, [order], missing, {site: parts[site] for site in order})


def _apart(made: Creation, holders: Sequence[Sequence[str]]) -> str:
    """Say that what things belong to is nowhere together."""
    where = "; ".join(f"{parent.id} is at {' and '.join(held) or 'no site'}" for parent, held in zip(made.parents, holders, strict=True))
    return f"one request can't make parts of things that are at different sites, and {where}: make them one by one"


def _identifiers(reply: Reply, resource: Resource) -> list[str]:
    """The ids in the answer to a creation: of one thing, or of several."""
    try:
        body = reply.json()
    except ValueError:
        return []
    return [each["id"] for each in items_of(body, resource) if isinstance(each.get("id"), str)]
