"""Answers a request from this site's own services, and brings here what it refers to if this site lacks it."""

from __future__ import annotations

import logging

from atoll.gateway.bring import Bringer
from atoll.gateway.copies import ownership
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import IDENTIFY
from atoll.gateway.sites import Sites, Upstream

LOG = logging.getLogger(__name__)

Answer = Reply | Upstream

LONGEST_S = 600.0
"""Seconds that a request may take for which something was brought."""


class Local:
    """The services of this site.

    Args:
        sites: to ask.

    Attributes:
        bringer: brings what a request refers to; `None`: a request is answered with what the site has.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self.bringer: Bringer | None = None

    async def answer(self, call: Call) -> Answer:
        """Answer a request of a client or of another gateway.

        Raises:
            Unreachable: the service does not answer.
        """
        if IDENTIFY in call.headers:  # of another gateway
            return await ownership.carried_out(self._sites, call, self.answer)
        if self.bringer is not None and (refused := await self.bringer.policies.refusal(call)) is not None:
            return refused
        answer = await self._sites.open(self._sites.here, call)
        if self.bringer is None or not _may_lack(call, answer.status):
            return answer
        return await self._brought(self.bringer, call, await answer.read())

    async def _brought(self, bringer: Bringer, call: Call, refused: Reply) -> Reply:
        """Ask again once what the request refers to is here; the refusal stands if nothing was missing, or can't be brought."""
        references = await bringer.missing(call)
        if not references:
            return refused
        LOG.info("%s: %s %s needs %s", call.request_id, call.method, call.path, references)
        undo = await bringer.bring(references, call.token, call.request_id)
        if undo is None:
            return refused
        reply = None
        try:
            reply = await self._sites.send(self._sites.here, call, timeout_s=LONGEST_S)
        finally:
            if reply is None or not reply.ok:
                await undo()
        return reply


def _may_lack(call: Call, status: int) -> bool:
    """True if a refusal may be for something that the request refers to and that this site has not got."""
    if call.method not in {"POST", "PUT"} or call.service not in {"compute", "network"} or not call.repeatable:
        return False
    # Nova answers 500 where a network to attach is not there (nova/api/openstack/compute/attach_interfaces.py).
    return status in {400, 404} or (status == 500 and call.path.endswith("/os-interface"))
