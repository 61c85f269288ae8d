"""Validates a token at this site's Keystone."""

from __future__ import annotations

from enum import Enum

from multidict import CIMultiDict

from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

_LACKS = "Could not find"
"""The first words of Keystone's 404 for a token whose user, project, role, credential or trust it does not have.

For a token that has expired or was revoked, the 404 has other words (keystone/token/provider.py, keystone/revoke/core.py).
"""


class Verdict(Enum):
    """Keystone's decision about a token.

    Attributes:
        VALID: the token is valid.
        REFUSED: it has expired, was revoked, or belongs to a disabled user, project or domain.
        LACKING: Keystone lacks something that the token names, or its user's roles.
    """

    VALID = "valid"
    REFUSED = "refused"
    LACKING = "lacking"


async def ask(sites: Sites, token: str, request_id: str) -> Reply:
    """Ask this site's Keystone whether a token is valid, with the gateway's account for images, whose rights suffice; return the answer.

    Args:
        sites: sends the request to this site's Keystone.
        token: the client's token.
        request_id: the id of the client's request.

    Raises:
        Unreachable: Keystone does not answer.
    """
    account = await sites.own_token("image")
    headers = CIMultiDict({"X-Auth-Token": account, "X-Subject-Token": token, "OpenStack-Identity-Access-Rules": "1.0"})
    return await sites.send(sites.here, Call("GET", "identity", "/v3/auth/tokens", "nocatalog", headers, None, request_id))


def unanswered(sites: Sites, reply: Reply) -> Unreachable:
    """Return the error for an answer of Keystone that does not show whether a token is valid."""
    return Unreachable(sites.here, f"Keystone does not answer whether a token is valid (HTTP {reply.status})")


async def judge(sites: Sites, token: str, request_id: str) -> Verdict:
    """Return the decision of this site's Keystone about a token.

    Args:
        sites: sends the request to this site's Keystone.
        token: the client's token.
        request_id: the id of the client's request.

    Raises:
        Unreachable: Keystone does not answer.
    """
    reply = await ask(sites, token, request_id)
    if reply.ok:
        return Verdict.VALID
    if reply.status != 404:
        raise unanswered(sites, reply)
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = ""
    return Verdict.LACKING if message.startswith(_LACKS) else Verdict.REFUSED


async def validate(sites: Sites, token: str, request_id: str) -> None:
    """Check that a token is valid, before its client may occupy resources that other clients need.

    Args:
        sites: sends the request to this site's Keystone.
        token: the client's token.
        request_id: the id of the client's request.

    Raises:
        Refused: the token is not valid.
        Unreachable: Keystone does not answer.
    """
    if not token:
        raise Refused(401, "the request has no token: expected an X-Auth-Token header")
    if await judge(sites, token, request_id) is not Verdict.VALID:
        raise Refused(401, "the token is not valid: it has expired or was revoked")
