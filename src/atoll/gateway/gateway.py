"""The path of a client's request through the gateway: recognise, resolve, plan, carry out, answer.

A request enters each stage once. `resolve.recognise` parses it into a request context. Then one handler finds the sites that it concerns
and has them carry it out: `local`, `item`, `create`, `lists` (lists, and other answers merged from all sites), or `copies` (resources that
several sites hold). This module chooses the handler, and adds to the answer the headers that all answers have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.gateway import scope as scopes
from atoll.gateway.bring import Bringer
from atoll.gateway.console import url as console_url
from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.copies.create import CreateAt
from atoll.gateway.copies.replicas import ReplicatedResources
from atoll.gateway.create import Creations
from atoll.gateway.item import Items
from atoll.gateway.lists.aggregator import Aggregator
from atoll.gateway.lists.lists import Lists
from atoll.gateway.lists.unreachable_servers import UnreachableServers
from atoll.gateway.local import Answer, LocalServices
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.context import Request
from atoll.gateway.resolve.locate import Locations
from atoll.gateway.resolve.recognise import Recogniser
from atoll.gateway.resolve.routes import Operation
from atoll.gateway.shared_database import SharedDatabase
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh

MakeReplicas = Callable[[CreateAt, LocalServices], ReplicatedResources]
"""Constructs the handler of replicated resources, given how to create a resource at a site, and this site's services."""


@dataclass(frozen=True)
class Collaborators:
    """Parts that the gateway calls, and that outlive a request, keep files or run tasks of their own.

    Attributes:
        bringer: brings to this site the resources that a request refers to.
        clashes: keeps names unique in the cloud.
        unreachable: the last known state of servers at sites that do not answer.
        replicas: see `MakeReplicas`.
        database: the database that the site shares with others; `None` if it shares none.
        on_reply: called with each request that involved more than this site's own services, and with its answer.
    """

    bringer: Bringer
    clashes: NameClashes
    unreachable: UnreachableServers
    replicas: MakeReplicas
    on_reply: Callable[[Call, Reply], None]
    database: SharedDatabase | None = None


class Gateway:
    """The gateway of one site, without its servers.

    Args:
        sites: sends requests to the sites of the cloud.
        mesh: the members of the cloud, and the round trips between them.
        collaborators: see `Collaborators`.

    Attributes:
        sites: the sites of the cloud.
        locations: the sites of the resources that this gateway has seen.
        local: this site's services.
    """

    def __init__(self, sites: Sites, mesh: Mesh, collaborators: Collaborators) -> None:
        clashes, unreachable = collaborators.clashes, collaborators.unreachable
        self.sites = sites
        self.locations = Locations()
        self._recogniser = Recogniser(sites, mesh)
        self.local = LocalServices(sites, collaborators.bringer, collaborators.database)
        self._creations = Creations(sites, self.locations, self.local, clashes)
        self._items = Items(sites, self.locations, self.local, clashes, unreachable)
        self._lists = Lists(sites, self.locations.learn, unreachable)
        self._aggregator = Aggregator(sites)
        self._replicas = collaborators.replicas(self._creations.at, self.local)
        self._clashes = clashes
        self._on_reply = collaborators.on_reply

    async def answer(self, call: Call, scope: str | None = None, prefix: str = "") -> Answer:
        """Answer a client's request, from whichever sites it concerns.

        Args:
            call: the client's request.
            scope: the sites that the client chose, in the scope language; `None` if it chose none.
            prefix: the part of the client's URL that holds the scope; the catalogue in the answer gets the same prefix.

        Raises:
            ScopeError: the scope is malformed, or names an unknown site.
            Unreachable: a site that the request needs does not answer.
        """
        request = self._recogniser.recognise(call, scope)
        if request.is_local:
            answer = await self.local.answer(call)
        else:
            answer = await self._carry_out(request)
            if isinstance(answer, Reply):
                self._on_reply(call, answer)
        self._clashes.mark(call, request.route, answer)
        if console_url.requests_console(call) and answer.status == 200:
            whole = answer if isinstance(answer, Reply) else await answer.read()
            return console_url.through_gateway(whole, call.headers["X-Forwarded-Host"])
        return await _rewritten(answer, prefix) if prefix and call.service == "identity" else answer

    async def answer_peer(self, call: Call) -> Answer:
        """Answer another gateway from this site's own services; see `LocalServices.answer`.

        Raises:
            Unreachable: the service does not answer.
        """
        return await self.local.answer(call)

    async def _carry_out(self, request: Request) -> Answer:
        route, several = request.route, len(request.among) > 1
        if route.operation is Operation.CREATE:
            return await self._creations.create(request, self._replicas.creator)
        if route.operation is Operation.LIST and several:
            return await self._lists.union(request.call, route, request.among)
        if route.operation is Operation.MERGE and several:
            return await self._aggregator.answer(request)
        if route.operation is Operation.EVERYWHERE and (refused := await self.local.refuses_everywhere(request.call)) is not None:
            return refused
        if (reply := await self._replicas.answer(request, self._clashes)) is not None:
            return reply
        return await (self._items.answer(request) if route.id else self.local.at(request.among[0], request.call))


async def _rewritten(answer: Answer, prefix: str) -> Answer:
    """Return Keystone's answer with the client's scope in the URLs of the catalogue."""
    reply = answer if isinstance(answer, Reply) else await answer.read()
    return Reply(reply.status, reply.headers, scopes.rewrite_catalogue(reply.body, prefix), reply.site)
