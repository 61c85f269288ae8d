"""Answers a request from this site's own services, and brings here what it refers to if this site lacks it.

What is here costs nothing: the service is asked first, and only if it refuses, what the request refers to is looked at. A few fields are
looked at beforehand, since the service would do without what they refer to.
"""

from __future__ import annotations

from atoll.gateway import faults
from atoll.gateway.bring import Bringer
from atoll.gateway.bring.asking import Elsewhere, Refusal
from atoll.gateway.bring.bringer import Undo
from atoll.gateway.copies.accepts import Accepts
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import ACCEPTS
from atoll.gateway.sites import Sites, Upstream

Answer = Reply | Upstream

LONGEST_S = 600.0
"""Seconds that a request may take for which something was brought."""

_WRITES = frozenset(("POST", "PUT", "PATCH"))
_SERVICES = frozenset(("compute", "network", "image"))


class Local:
    """The services of this site.

    Args:
        sites: to ask.

    Attributes:
        bringer: brings what a request refers to; `None`: a request is answered with what the site has.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._accepts = Accepts(sites)
        self.bringer: Bringer | None = None

    async def at(self, site: str, call: Call) -> Answer:
        """Have a site answer: this one as `answer` does, another one by its gateway.

        Raises:
            Unreachable: it does not answer.
        """
        return await self.answer(call) if site == self._sites.here else await self._sites.open(site, call)

    async def answer(self, call: Call) -> Answer:
        """Answer a request of a client or of another gateway.

        Raises:
            Unreachable: the service does not answer.
        """
        if ACCEPTS in call.headers:  # of another gateway
            return await self._accepts.answer(call, self.bringer.policies if self.bringer is not None else None)
        if self.bringer is not None and (refused := await self.bringer.policies.refusal(call)) is not None:
            return refused
        if self.bringer is None or call.method not in _WRITES or call.service not in _SERVICES or not isinstance(call.body, bytes):
            return await self._sites.open(self._sites.here, call)
        try:
            return await self._with(self.bringer, call)
        except Refusal as refusal:
            return self._told(call, refusal)

    async def refuses_everywhere(self, call: Call) -> Reply | None:
        """Return the refusal of a change that several sites are to carry out, because one of them lacks what it refers to."""
        try:
            if self.bringer is not None:
                await self.bringer.everywhere(call)
        except Refusal as refusal:
            return self._told(call, refusal)
        return None

    def _told(self, call: Call, refusal: Refusal) -> Reply:
        if refusal.away:
            return faults.unreachable(call.service, refusal.away, self._sites.here)
        return faults.fault(call.service, refusal.status, str(refusal), self._sites.here)

    async def _with(self, bringer: Bringer, call: Call) -> Answer:
        """Ask the service, and ask again once what the request refers to is here.

        Raises:
            Refusal: it refers to what can't be brought.
            Unreachable: a service does not answer.
        """
        undo = await bringer.ahead(call)
        if undo is None:
            answer = await self._sites.open(self._sites.here, call)
            if not _may_lack(call, answer.status):
                return answer
            return await self._after(bringer, call, await answer.read())
        return await self._sent(call, undo, bringer)

    async def _after(self, bringer: Bringer, call: Call, refused: Reply) -> Reply:
        """Bring what a refused request lacks; the refusal stands if nothing was missing."""
        try:
            undo = await bringer.after(call)
        except Elsewhere as error:
            # 404, so that the gateway looks for the site. The client sees it if the request itself names this one.
            return faults.fault(call.service, 404, str(error), self._sites.here)
        return refused if undo is None else await self._sent(call, undo)

    async def _sent(self, call: Call, undo: Undo, bringer: Bringer | None = None) -> Reply:
        """Send a request for which something was brought, and take that away again if it fails all the same."""
        reply = None
        try:
            reply = await self._sites.send(self._sites.here, call, timeout_s=LONGEST_S)
            if bringer is not None and _may_lack(call, reply.status):
                reply = await self._after(bringer, call, reply)
        finally:
            if reply is None or not reply.ok:
                await undo()
        return reply


def _may_lack(call: Call, status: int) -> bool:
    """True if a refusal may be for something that the request refers to and that this site has not got."""
    if call.service not in {"compute", "network"}:
        return False
    # Nova answers 500 where a network to attach is not there (nova/api/openstack/compute/attach_interfaces.py).
    return status in {400, 404, 409} or (status == 500 and call.path.endswith("/os-interface"))
