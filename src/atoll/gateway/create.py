"""Creates resources: at the site that the request names, at the sites of its scope, at the site of the resource's parent, or here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.local import LocalServices
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


class Creations:
    """The handler of requests that create resources.

    Args:
        sites: sends requests to the sites of the cloud.
        locations: remembers the site of each created resource.
        local: the services of this site.
        clashes: keeps names unique in the cloud.
    """

    def __init__(self, sites: Sites, locations: Locations, local: LocalServices, clashes: NameClashes) -> None:
        self._sites = sites
        self._locations = locations
        self._local = local
        self._clashes = clashes
        self._requesters = Requesters(sites)

    async def at(self, site: str, call: Call, resource: Resource) -> Reply:
        """Create a resource at one site, and return the site's answer; the site brings the resources that the new one refers to.

        Raises:
            Unreachable: the site does not answer.
        """
        answer = await self._local.at(site, call)
        reply = answer if isinstance(answer, Reply) else await answer.read()
        if reply.ok:
            self._locations.learn(resource, [(identifier, site) for identifier in _identifiers(reply, resource)])
        return reply

    async def create(self, request: Request, creator: Creator) -> Reply:
        """Create the resource of a request; if its name must be unique in the cloud, ask all sites for the name first.

        Args:
            request: a request with the operation `CREATE`.
            creator: creates one resource at several sites.

        Raises:
            Unreachable: the site where the resource would have to be created does not answer.
        """
        names = wanted(request.call, request.resource)
        try:
            if names and await self._may_take(request.call, names):
                return await self._clashes.names.create(request.call, names, lambda: self._create(request, creator))
            return await self._create(request, creator)
        except BringRefused as refusal:  # an RBAC policy whose object may be at a site that can't be reached
            return unreachable(request.call.service, refusal.away, self._sites.here)

    async def _may_take(self, call: Call, names: Sequence[Name]) -> bool:
        """Return whether a request's user may create these names; if not, the service refuses the request, and no site is asked.

        Each user owns the names of its key pairs. All other names of the whole cloud are for administrators: the refusal would tell another
        user that a name exists, and the request would reserve the name until it ends.
        """
        requester = await self._requesters.of(call)
        return requester is not None and (requester.is_admin or all(name.owner == requester.user for name in names))

    async def _create(self, request: Request, creator: Creator) -> Reply:
        resource, plan = request.resource, request.plan
        try:
            made = creation(request.call, resource, {self._sites.here, *self._sites.others()})
        except Unplaceable as error:
            return fault(request.call.service, 400, str(error), self._sites.here)
        if (refused := self._ambiguous(made, plan)) is not None:
            return refused
        site = await self._site_of(made, resource, plan)
        if site is None and plan is not None:
            return await creator.create(made.call, resource, plan.choices)
        home = plan.sites[0] if plan else self._sites.here
        unknown_token = made.call.user == "" and len(made.parents) > 1  # the service will refuse it: no search for so many parents
        if site is not None or not made.parents or unknown_token:
            return await self.at(site or home, made.call, resource)
        if resource.copies and made.whole:
            return await self._part(made, resource, home, creator)
        return await self._at_parent(made, resource, home)

    async def _site_of(self, made: Creation, resource: Resource, plan: Plan | None) -> str | None:
        """Return the site that a request names, or to which its RBAC policy belongs; `None` if there is no such site.

        Raises:
            BringRefused: the policy may belong to a site that can't be reached.
        """
        if resource.key == "rbac_policies" and plan is None:
            return await self._local.bringer.policies.site_for(made.call)
        # This site's Nova builds on the hosts of the sites that share it: the request still names the zone.
        return self._sites.here if made.site and self._sites.groups.is_shared(made.site, made.call.service) else made.site

    def _ambiguous(self, made: Creation, plan: Plan | None) -> Reply | None:
        """Return 409 if a name in the request means different resources at the site of the creation and at this site; else `None`."""
        sites = [made.site] if made.site is not None else plan.sites if plan else [self._sites.here]
        return next((refused for site in sites if (refused := self._clashes.refusal(made.call, site)) is not None), None)

    async def _at_parent(self, made: Creation, resource: Resource, home: str) -> Reply:
        """Create a part of a resource that is at one site, such as a floating IP of a port, at the site of that resource."""
        # A parent that has copies may be at this site too, wherever it was seen.
        single = [parent for parent in made.parents if not parent.resource.copies]
        known = next((site for parent in single if (site := self._locations.get(parent.resource, parent.id))), None)
        reply = await self.at(known or home, made.call, resource)
        if reply.status == 404 and (known is None or any(parent.resource.moves for parent in made.parents)):
            asked = known or home
            for parent in made.parents:
                elsewhere = [site for site in self._sites.everywhere(made.call.service) if site != asked]
                found = await search(self._sites, made.call.look(parent.path), elsewhere)
                if found.reply is not None and found.holds:
                    return await self.at(found.reply.site, made.call, resource)
                if found.missing:
                    return unreachable(made.call.service, found.missing, self._sites.here)
        return reply

    async def _part(self, made: Creation, resource: Resource, home: str, creator: Creator) -> Reply:
        """Create a part of a resource that has copies, such as a subnet of a network, at every site that holds a copy."""
        everywhere = self._sites.everywhere(made.call.service)
        found = await asyncio.gather(*(holders(self._sites, made.call.look(parent.path), everywhere) for parent in made.parents))
        missing = sorted({site for _, silent in found for site in silent})
        # By site: the indexes of the new resources whose parent the site holds.
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
        if len(parts) + len(missing) == 1:
            return await self.at(complete[0], made.call, resource)
        # A site that does not answer may hold a copy too; it creates the part when it can be reached again.
        order = [*complete, *(site for site in self._sites.near_first(list(parts)) if site not in complete)]
        return await creator.create(made.call, resource, [order], missing, {site: parts[site] for site in order})


def _apart(made: Creation, holders: Sequence[Sequence[str]]) -> str:
    """Return the message for a request whose parents have no site in common."""
    where = "; ".join(f"{parent.id} is at {' and '.join(held) or 'no site'}" for parent, held in zip(made.parents, holders, strict=True))
    return f"one request can't create parts of resources that no single site holds together ({where}): send one request for each of them"


def _identifiers(reply: Reply, resource: Resource) -> list[str]:
    """Return the ids of the created resources in the answer to a creation."""
    try:
        body = reply.json()
    except ValueError:
        return []
    return [each["id"] for each in items_of(body, resource) if isinstance(each.get("id"), str)]
