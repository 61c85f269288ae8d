"""The project of a user who hands off a server, as a site's Keystone confirms it."""

from __future__ import annotations

from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.request import validation
from atoll.gateway.sites import Sites

_WRITERS = frozenset(("admin", "manager", "member"))


async def project_of(sites: Sites, client: ServiceClient) -> str:
    """Return the project of a token whose user may create and delete servers in it.

    Args:
        sites: sends the request to this site's Keystone.
        client: has the token.

    Raises:
        HandoffRefused: the token is not valid, or may not do this.
        Unreachable: Keystone does not answer.
    """
    if not client.token:
        raise HandoffRefused("the request has no token: expected an X-Auth-Token header", 401)
    reply = await validation.ask(sites, client.token, client.request_id)
    if reply.status in {400, 404}:
        raise HandoffRefused(f"the token is not valid at {sites.here}: it has expired or was revoked", 401)
    if not reply.ok:
        raise validation.unanswered(sites, reply)
    said = reply.json()["token"]
    if "access_rules" in (said.get("application_credential") or {}):
        raise HandoffRefused("the token is limited by access rules, which let no server be handed off", 403)
    project = str((said.get("project") or {}).get("id") or "")
    if not project or not _WRITERS.intersection(role["name"] for role in said.get("roles", ())):
        raise HandoffRefused("the token may create nothing in a project", 403)
    return project
