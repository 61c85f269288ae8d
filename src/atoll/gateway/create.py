"""Has something made: at the site that the request names, at those of its scope, where what it belongs to is, or here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atoll.gateway.faults import fault, unreachable
from atoll.gateway.local import Local
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.resolve.locate import ANSWER_S, Locations, search
from atoll.gateway.resolve.placing import Creation, Parent, Unplaceable, creation, items_of
from atoll.gateway.resolve.recognise import Request
from atoll.gateway.resolve.routes import Resource, is_uuid
from atoll.gateway.sites import Sites

if TYPE_CHECKING:
    from atoll.gateway.copies.replicas import Replicas

LOG = logging.getLogger(__name__)


class Creations:
    """Has things made.

    Args:
        sites: to ask.
        locations: told of what was made.
        local: the services of this site.
    """

    def __init__(self, sites: Sites, locations: Locations, local: Local) -> None:
        self._sites = sites
        self._locations = locations
        self._local = local

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

    async def create(self, request: Request, replicas: Replicas | None) -> Reply:
        """Make what a request asks for.

        Args:
            request: any creation.
            replicas: makes the same at several sites.

        Raises:
            Unreachable: the site where it would have to be made does not answer.
        """
        resource, plan = request.resource, request.plan
        try:
            made = creation(request.call, resource, {self._sites.here, *self._sites.others()})
        except Unplaceable as error:
            return fault(request.call.service, 400, str(error), self._sites.here)
        if made.site is not None:
            return await self.at(made.site, made.call, resource)
        if plan is not None and replicas is not None:
            return await replicas.create(made.call, resource, plan.choices)
        home = plan.sites[0] if plan else self._sites.here
        if not made.parents:
            return await self.at(home, made.call, resource)
        if resource.copies and made.whole:
            return await self._part(made, resource, home, replicas)
        return await self._at_parent(made, resource, home)

    async def _at_parent(self, made: Creation, resource: Resource, home: str) -> Reply:
        """A port of a network, a floating IP of a port: here if the whole is here, else where it is."""
        known = next((site for parent in made.parents if (site := self._locations.get(parent.resource, parent.id))), None)
        reply = await self.at(known or home, made.call, resource)
        if reply.status == 404 and known is None:
            for parent in made.parents:
                elsewhere = [site for site in self._sites.everywhere() if site != home]
                found = await search(self._sites, made.call.look(parent.path), elsewhere)
                if found.reply is not None and found.reply.status == 200:
                    return await self.at(found.reply.site, made.call, resource)
                if found.missing:
                    return unreachable(made.call.service, found.missing, self._sites.here)
        return reply

    async def _part(self, made: Creation, resource: Resource, home: str, replicas: Replicas | None) -> Reply:
        """Rules of groups, subnets of networks: wherever there is a copy of the whole."""
        holders = await asyncio.gather(*(self._holders(made.call, parent) for parent in made.parents))
        missing = sorted({site for _, away in holders for site in away})
        # Of each site that has any of the wholes, the numbers of the things that belong to them.
        parts: dict[str, list[int]] = {}
        for number, whole in enumerate(made.whole):
            for site in holders[whole][0]:
                parts.setdefault(site, []).append(number)
        if not parts:
            if missing and any(is_uuid(parent.id) for parent in made.parents):
                return unreachable(made.call.service, missing, self._sites.here)
            return await self.at(home, made.call, resource)
        complete = [site for site in self._sites.near_first(list(parts)) if len(parts[site]) == len(made.whole)]
        if not complete:
            return fault(made.call.service, 409, _apart(made, [held for held, _ in holders]), self._sites.here)
        if len(parts) + len(missing) == 1 or replicas is None:
            return await self.at(complete[0], made.call, resource)
        # Who can't be asked may have a copy too, and makes this part of it later.
        order = [*complete, *(site for site in self._sites.near_first(list(parts)) if site not in complete)]
        return await replicas.create(made.call, resource, [order], missing, {site: parts[site] for site in order})

    async def _holders(self, call: Call, parent: Parent) -> tuple[list[str], list[str]]:
        """The sites that have a resource, and those that do not answer."""
        everywhere = self._sites.everywhere()
        replies = await asyncio.gather(*(self._try(site, call.look(parent.path)) for site in everywhere))
        held = [site for site, reply in zip(everywhere, replies, strict=True) if reply is not None and reply.status == 200]
        return held, [site for site, reply in zip(everywhere, replies, strict=True) if reply is None]

    async def _try(self, site: str, call: Call) -> Reply | None:
        try:
            return await self._sites.send(site, call, ANSWER_S)
        except Unreachable as error:
            LOG.info("%s: %s", call.request_id, error)
            return None


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
