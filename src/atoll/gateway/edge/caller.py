"""The token of a discovery request, and its confirmation by Keystone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.gateway.edge.problem import Problem
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.validation import ask, unanswered
from atoll.gateway.sites import Sites


@dataclass(frozen=True)
class ConfirmedCaller:
    """The caller behind a token that Keystone confirmed for this request.

    Attributes:
        roles: the names of the roles in the token's project, domain or system; at least one.
        project: the id of the token's project; empty if the token belongs to a domain or the system.
        user: the id of the token's user.
    """

    roles: frozenset[str]
    project: str = ""
    user: str = ""


def token_of(headers: Mapping[str, str]) -> str:
    """Return the token of a request: `Authorization: Bearer TOKEN`, as the standard says, or `X-Auth-Token`, as OpenStack does.

    Raises:
        Problem: the request has no token, or two different tokens.
    """
    token = headers.get("X-Auth-Token", "")
    if (credentials := headers.get("Authorization")) is not None:
        scheme, _space, bearer = credentials.partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            raise Problem(401, "the Authorization header has no token: expected Bearer TOKEN")
        if token and token != bearer:
            raise Problem(401, "the headers Authorization and X-Auth-Token have different tokens: expected one token")
        token = bearer
    if not token:
        raise Problem(401, "the request has no token: expected Authorization: Bearer TOKEN, or X-Auth-Token")
    if not token.isascii() or not token.isprintable():
        raise Problem(401, "the token is not valid")
    return token


async def confirm(sites: Sites, token: str, request_id: str) -> ConfirmedCaller:
    """Return the caller of a token, as this site's Keystone confirms it now; nothing is remembered.

    Args:
        sites: sends the request to this site's Keystone.
        token: the client's token.
        request_id: the id of the client's request.

    Raises:
        Problem: the token is not valid, has no role, or is limited to certain requests by access rules.
        Unreachable: Keystone does not answer.
    """
    reply = await ask(sites, token, request_id)
    if reply.status in {400, 404}:
        raise Problem(401, "the token is not valid: it has expired or was revoked, or nobody issued it")
    if not reply.ok:
        raise unanswered(sites, reply)
    try:
        told = reply.json()["token"]
        roles = frozenset(str(role["name"]) for role in told.get("roles", ()))
        project = str((told.get("project") or {}).get("id") or "")
        user = str((told.get("user") or {}).get("id") or "")
        limited = "access_rules" in (told.get("application_credential") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(sites.here, "Keystone's answer about a token is malformed") from error
    if limited:
        raise Problem(403, "the token is limited by access rules, which allow no edge discovery")
    if not roles:
        raise Problem(403, "the token has no role: expected one that is scoped to a project")
    return ConfirmedCaller(roles, project, user)
