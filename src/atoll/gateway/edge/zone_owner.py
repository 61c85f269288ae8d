"""The start of instances by the gateway of their zone, so that concurrent requests to several gateways don't start two.

A project may have one instance of an application in a zone. Nova has no such rule. If two gateways each checked that there is no instance,
and then created one, there would be two. So each gateway passes the request on to the gateway of the zone's site, with the client's own
token. That gateway handles the requests one after the other. Nova creates the server at that site anyway, so no further site must answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.edge.caller import confirm, token_of
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.launcher import NETWORK
from atoll.gateway.edge.manifest import MOST_BYTES
from atoll.gateway.edge.problem import Problem
from atoll.gateway.peer import peer_body
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply, Unreachable, json_reply, to_gateway
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

_FIELDS = ("name", "appId", "appInstanceId", "appProvider", "status", "edgeCloudZoneId")
"""The fields of the answer for a client about a new instance."""

_STATUSES = frozenset(status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
"""The statuses that a refusal may have."""

_CODE = re.compile(r"[A-Z_]{1,64}")

LOG = logging.getLogger(__name__)

PATH = "/atoll/edge-instances"
"""Path at the peer port by which another gateway passes on a client's request."""

START_S = 600.0
"""Seconds to wait for the answer of the zone's gateway, which may have to fetch the image first; meanwhile, the site is pinged."""


class ZoneOwner:
    """The starts of instances in the zone of this site, and the requests for those in other zones.

    Args:
        sites: sends requests to other gateways.
        start: starts an instance in the zone of this site, and returns the answer for the client.
    """

    def __init__(self, sites: Sites, start: Callable[[Question], Awaitable[Reply]]) -> None:
        self._sites = sites
        self._start = start

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_post(PATH, self._passed_on)

    async def ask(self, question: Question, site: str) -> Reply | None:
        """Have the gateway of a zone start an instance.

        Args:
            question: the request of the client.
            site: the site of the zone, not this one.

        Returns:
            The answer for the client, with only the fields of the instance; `None` if the other gateway's version lacks this request.

        Raises:
            Problem: the other gateway refuses the request.
            Unreachable: the site does not answer.
        """
        headers = {"X-Auth-Token": question.token}
        if NETWORK in question.headers:
            headers[NETWORK] = question.headers[NETWORK]
        call = to_gateway("POST", PATH, headers=headers, body=question.body).with_(request_id=question.request_id)
        reply = await self._sites.send(site, call, START_S)
        try:
            said = reply.json()
            if reply.status == 202 and is_uuid(str(said["appInstanceId"])):
                return json_reply(202, {name: str(said[name]) for name in _FIELDS}, self._sites.here)
            message, code = str(said["message"]), str(said["code"])
        except (ValueError, KeyError, TypeError) as error:
            if reply.status in {404, 405}:
                LOG.info("%s: %s can't start an instance itself: it is of an earlier version", question.request_id, site)
                return None
            raise Unreachable(site, f"it answers {reply.status} about an instance of an application") from error
        if reply.status not in _STATUSES:
            raise Unreachable(site, f"it answers {reply.status} about an instance of an application")
        raise Problem(reply.status, message, code if _CODE.fullmatch(code) else "")

    async def _passed_on(self, request: web.Request) -> web.StreamResponse:
        request_id = heads.request_id(request.headers.get(heads.REQUEST_ID))
        body = await peer_body(request, MOST_BYTES)
        here = self._sites.here
        try:
            token = token_of(request.headers)
            caller = await confirm(self._sites, token, request_id)
            reply = await self._start(Question(caller, token, caller.user, request_id, None, request.headers, body=body))
        except Problem as problem:
            reply = problem.reply(here)
        except Refused as refused:
            reply = Problem(refused.status, refused.message).reply(here)
        except Unreachable as error:
            reply = Problem(503, str(error)).reply(here)
        return web.Response(status=reply.status, headers=CIMultiDict(reply.headers), body=reply.body)
