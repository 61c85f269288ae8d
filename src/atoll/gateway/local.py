"""Answers requests from this site's own services, and brings to this site the resources that a request refers to and the site lacks.

A request whose resources are all here costs nothing extra: the service is asked first, and the request's references are examined only if
the service refuses. A few fields are examined beforehand, because the service would accept the request without the resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from atoll.gateway import faults
from atoll.gateway.bring import Bringer
from atoll.gateway.bring.service_client import BelongsElsewhere, BringRefused
from atoll.gateway.bring.undo import BroughtResources
from atoll.gateway.copies.in_use import InUseCheck
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import ACCEPTS, MOVED
from atoll.gateway.shared_database import SharedDatabase
from atoll.gateway.sites import Sites, StreamedReply

Answer = Reply | StreamedReply

LONGEST_S = 600.0
"""Seconds that a service has to answer a request for which resources were brought."""

_SERVER = re.compile(r"/v2(?:\.1)?(?:/[0-9a-f]{32})?/servers/([0-9a-f-]{36})(?:/|$)")
_WRITES = frozenset(("POST", "PUT", "PATCH"))
_SERVICES = frozenset(("compute", "network", "image"))


class LocalServices:
    """The services of this site.

    Args:
        sites: sends requests to the sites of the cloud.
        bringer: brings to this site the resources that a request refers to.
        database: the database that this site shares with others; `None` if it shares none.

    Attributes:
        moved: returns the site to which a server was handed off from here; `None` if it was not.
    """

    moved: Callable[[str], str | None]

    def __init__(self, sites: Sites, bringer: Bringer, database: SharedDatabase | None = None) -> None:
        self._database = database
        self.moved = lambda _server: None
        self.bringer = bringer
        self._sites = sites
        self._in_use = InUseCheck(sites)

    async def at(self, site: str, call: Call) -> Answer:
        """Return a site's answer: for this site, the answer of its services (`answer`); for another site, that of its gateway.

        Raises:
            Unreachable: the site does not answer.
        """
        return await self.answer(call) if site == self._sites.here else await self._sites.open(site, call)

    async def answer(self, call: Call) -> Answer:
        """Answer a request of a client or of another gateway; a 404 for a server that was handed off names its new site.

        Raises:
            Unreachable: the service does not answer.
        """
        if self._database is not None and (refused := self._database.refusal(call)) is not None:
            return refused
        answer = await self._answered(call)
        if self._database is not None and (refused := await self._database.explain(call, answer.status)) is not None:
            if isinstance(answer, StreamedReply):
                answer.close()
            return refused
        if answer.status == 404 and call.service == "compute" and (server := _SERVER.match(call.path)) is not None:
            site = self.moved(server[1])
            if site is not None:
                answer.headers[MOVED] = site
        return answer

    async def _answered(self, call: Call) -> Answer:
        if ACCEPTS in call.headers:  # only another gateway sets this header
            return await self._in_use.answer(call, self.bringer.policies)
        if (refused := await self.bringer.policies.refusal(call)) is not None:
            return refused
        if call.method not in _WRITES or call.service not in _SERVICES or not isinstance(call.body, bytes):
            return await self._sites.open(self._sites.here, call)
        try:
            return await self._with_references(call)
        except BringRefused as refusal:
            return self._refusal(call, refusal)

    async def refuses_everywhere(self, call: Call) -> Reply | None:
        """Return the refusal of a change of several copies if one of their sites lacks a resource that the change refers to."""
        try:
            await self.bringer.everywhere(call)
        except BringRefused as refusal:
            return self._refusal(call, refusal)
        return None

    def _refusal(self, call: Call, refusal: BringRefused) -> Reply:
        if refusal.away:
            return faults.unreachable(call.service, refusal.away, self._sites.here)
        return faults.fault(call.service, refusal.status, str(refusal), self._sites.here)

    async def _with_references(self, call: Call) -> Answer:
        """Send a request to its service, and send it again once the resources that it refers to are here.

        Raises:
            BringRefused: the request refers to a resource that can't be brought.
            Unreachable: a service does not answer.
        """
        brought = await self.bringer.ahead(call)
        if brought is None:
            answer = await self._sites.open(self._sites.here, call)
            if not _may_lack(call, answer.status):
                return answer
            return await self._after_refusal(call, await answer.read())
        return await self._send(call, brought, may_bring=True)

    async def _after_refusal(self, call: Call, refused: Reply) -> Reply:
        """Bring the resources that a refused request lacks and send it again; if none is missing, return the refusal."""
        try:
            brought = await self.bringer.after(call)
        except BelongsElsewhere as error:
            # After a 404, the client's gateway looks for the right site. The client gets the 404 only if its request names this site.
            return faults.fault(call.service, 404, str(error), self._sites.here)
        return refused if brought is None else await self._send(call, brought)

    async def _send(self, call: Call, brought: BroughtResources, *, may_bring: bool = False) -> Reply:
        """Send a request for which resources were brought; if the request fails, remove the resources again.

        Args:
            call: the request.
            brought: the resources that were brought.
            may_bring: bring further resources if the service still lacks some.
        """
        reply = None
        try:
            reply = await self._sites.send(self._sites.here, call, timeout_s=LONGEST_S)
            if may_bring and _may_lack(call, reply.status):
                reply = await self._after_refusal(call, reply)
        finally:
            if reply is None or not reply.ok:
                await brought.undo()
            else:
                brought.keep()
        return reply


def _may_lack(call: Call, status: int) -> bool:
    """Return whether a service may have refused a request because this site lacks a resource that the request refers to."""
    if call.service not in {"compute", "network"}:
        return False
    # Nova answers 500 if the network of an interface does not exist (nova/api/openstack/compute/attach_interfaces.py).
    return status in {400, 404, 409} or (status == 500 and call.path.endswith("/os-interface"))
