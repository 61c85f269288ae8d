"""Asks all sites for what is made one answer in another way than a list: zones, usage, limits, statistics."""

from __future__ import annotations

import asyncio
import logging

import orjson
from multidict import CIMultiDict

from atoll.gateway.faults import unreachable
from atoll.gateway.lists.lists import ANSWER_S
from atoll.gateway.lists.merge import MERGERS
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import MISSING, SITE
from atoll.gateway.resolve.recognise import Request
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)


class Merged:
    """Answers such requests.

    Args:
        sites: to ask.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    async def answer(self, request: Request) -> Reply:
        """Answer with what all sites say, made one; the header `X-Atoll-Missing` names those that do not answer."""
        call, among = request.call, request.among
        replies = await asyncio.gather(*(self._ask(site, call) for site in among))
        first = next((reply for reply in replies if reply is not None), None)
        if first is None:
            return unreachable(call.service, among, self._sites.here)
        if first.status != 200:
            return first
        bodies = {reply.site: reply.json() for reply in replies if reply is not None and reply.status == 200}
        missing = [site for site in among if site not in bodies]
        headers = CIMultiDict(first.headers)
        headers[SITE] = ",".join(bodies)
        if missing:
            headers[MISSING] = ",".join(missing)
        return Reply(200, headers, orjson.dumps(MERGERS[request.route.name](bodies, missing)), headers[SITE])

    async def _ask(self, site: str, call: Call) -> Reply | None:
        try:
            return await self._sites.send(site, call, ANSWER_S)
        except Unreachable as error:
            LOG.info("%s: %s", call.request_id, error)
            return None
