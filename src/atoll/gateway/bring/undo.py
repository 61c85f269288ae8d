"""Takes away what was made for a request that then failed."""

from __future__ import annotations

import logging

from atoll.gateway.bring.asking import Asker
from atoll.gateway.request.call import Unreachable

LOG = logging.getLogger(__name__)

_NOT_THERE = 404
_IN_USE = 409


class Made:
    """What one bringing has made at this site.

    Args:
        asker: who made it.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._targets: list[tuple[str, str, str | None]] = []

    def note(self, service: str, target: str, token: str | None = None) -> None:
        """Something was made, and can be deleted at that path, with the gateway's rights unless a token is given."""
        self._targets.append((service, target, token))

    async def undo(self) -> None:
        """Delete it, the latest first. What somebody else has begun to use stays."""
        sites = self._asker.sites
        while self._targets:
            service, target, token = self._targets.pop()
            try:
                call = self._asker.call("DELETE", service, target, token or await sites.own_token(service))
                reply = await sites.send(sites.here, call)
            except Unreachable as error:
                LOG.warning("%s: could not be taken away again: %s (%s)", self._asker.request_id, target, error)
                continue
            if not reply.ok and reply.status not in {_NOT_THERE, _IN_USE}:
                LOG.warning("%s: could not be taken away again: %s (HTTP %d)", self._asker.request_id, target, reply.status)
