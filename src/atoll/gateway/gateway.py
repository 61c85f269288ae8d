"""The way of a client's request: recognise, resolve, plan, carry out, answer.

Each stage is entered once. What a request is about is recognised in `resolve.recognise`; then one handler finds out which sites it
concerns and has them carry it out: `local`, `item`, `create`, `lists` (for lists and for what is merged in another way), or `copies` (for
what several sites have). What all answers have in common is done here, last.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.gateway import scope as scopes
from atoll.gateway.bring import Bringer
from atoll.gateway.console import url as console_url
from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.copies.replicas import Replicas
from atoll.gateway.create import Creations
from atoll.gateway.item import Items
from atoll.gateway.lists.away import Away
from atoll.gateway.lists.lists import Lists
from atoll.gateway.lists.merged import Merged
from atoll.gateway.local import Answer, Local
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.context import Request
from atoll.gateway.resolve.locate import Locations
from atoll.gateway.resolve.recognise import Recogniser
from atoll.gateway.resolve.routes import Operation
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh


class Gateway:
    """The gateway of one site.

    Args:
        sites: to ask.
        mesh: who there is.

    Attributes:
        replicas: without it each thing is at one site. It needs `creations`, and so is given when the gateway is made.
        creations: makes things.
        on_reply: told of requests that more than this site's own services had to do with, and of what was answered.
        locations: which site holds which id, as far as this gateway knows.
    """

    def __init__(self, sites: Sites, mesh: Mesh) -> None:
        self.here = sites.here
        self.sites = sites
        self.locations = Locations()
        self.replicas: Replicas | None = None
        self.on_reply: Callable[[Call, Reply], None] | None = None
        self._recogniser = Recogniser(sites, mesh)
        self._local = Local(sites)
        self._items = Items(sites, self.locations, self._local)
        self._lists = Lists(sites, self.locations.learn)
        self._merged = Merged(sites)
        self.creations = Creations(sites, self.locations, self._local)

    @property
    def clashes(self) -> Clashes | None:
        """What keeps names unique in the cloud; without it they are so at each site."""
        return self._items.clashes

    @clashes.setter
    def clashes(self, clashes: Clashes) -> None:
        self._items.clashes = self.creations.clashes = clashes

    @property
    def bringer(self) -> Bringer | None:
        """What brings things here; without it a request is answered with what the site has."""
        return self._local.bringer

    @bringer.setter
    def bringer(self, bringer: Bringer) -> None:
        self._local.bringer = bringer

    @property
    def away(self) -> Away | None:
        """What knows servers of sites that do not answer; without it nothing is known of them."""
        return self._lists.away

    @away.setter
    def away(self, away: Away) -> None:
        self._lists.away = self._items.away = away

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
        request = self._recogniser.recognise(call, scope)
        if request.is_local:
            answer = await self._local.answer(call)
        else:
            answer = await self._carry_out(request)
            if self.on_reply is not None and isinstance(answer, Reply):
                self.on_reply(call, answer)
        if self.clashes is not None:
            self.clashes.mark(call, request.route, answer)
        if console_url.asked_for(call) and answer.status == 200:
            whole = answer if isinstance(answer, Reply) else await answer.read()
            return console_url.led_here(whole, call.headers["X-Forwarded-Host"])
        return await _rewritten(answer, prefix) if prefix and call.service == "identity" else answer

    async def local(self, call: Call) -> Answer:
        """Answer another gateway from this site's own services; see `Local.answer`.

        Raises:
            Unreachable: the service does not answer.
        """
        return await self._local.answer(call)

    async def _carry_out(self, request: Request) -> Answer:
        route, several = request.route, len(request.among) > 1
        if route.operation is Operation.CREATE:
            return await self.creations.create(request, self.replicas.creator if self.replicas is not None else None)
        if route.operation is Operation.LIST and several:
            return await self._lists.union(request.call, route, request.among)
        if route.operation is Operation.MERGE and several:
            return await self._merged.answer(request)
        if route.operation is Operation.EVERYWHERE and (refused := await self._local.refuses_everywhere(request.call)) is not None:
            return refused
        if self.replicas is not None and (reply := await self.replicas.answer(request, self.clashes)) is not None:
            return reply
        return await (self._items.answer(request) if route.id else self._local.at(request.among[0], request.call))


async def _rewritten(answer: Answer, prefix: str) -> Answer:
    """An answer of Keystone whose catalogue leads back to the scope that the client is in."""
    reply = answer if isinstance(answer, Reply) else await answer.read()
    return Reply(reply.status, reply.headers, scopes.rewrite_catalogue(reply.body, prefix), reply.site)
