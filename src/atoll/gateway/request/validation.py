"""Asks this site's Keystone whether a token is good now: before a client may hold what others need too."""

from __future__ import annotations

from multidict import CIMultiDict

from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites


async def validate(sites: Sites, token: str, request_id: str) -> None:
    """Make sure that a token is good, as services do it: with the rights of the gateway's account for images.

    Args:
        sites: to ask.
        token: the client's.
        request_id: of the client's request.

    Raises:
        Refused: it is not.
        Unreachable: Keystone does not say.
    """
    if not token:
        raise Refused(401, "the request needs a token")
    account = await sites.own_token("image")
    headers = CIMultiDict({"X-Auth-Token": account, "X-Subject-Token": token, "OpenStack-Identity-Access-Rules": "1.0"})
    reply = await sites.send(sites.here, Call("GET", "identity", "/v3/auth/tokens", "nocatalog", headers, None, request_id))
    if reply.status == 404:
        raise Refused(401, "the token is not valid")
    if not reply.ok:
        raise Unreachable(sites.here, f"Keystone does not say whether a token is valid (HTTP {reply.status})")
