"""Decides what a user sees where the access rules of the user's application credential forbid to look.

A credential may allow `POST /v2.1/servers` and nothing else. On one site that is enough: Nova looks at the image and the networks in its
own name. So where the gateway has to look for a request that a service has let through, and the user's token is refused, the gateway of the
site in question validates the token, reads with its own account, and shows what the token's project may see, by the rules of the services.
Nothing of it reaches a client, and tokens without access rules get nothing here: for them a refusal is a refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused, parse
from atoll.gateway.resolve.routes import COMPUTE, Operation, match
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_SERVICES

PATH = "/atoll/sight/{target:.*}"

REFUSALS = (401, 403)
"""Statuses by which a service says that a token is no good, or not for this request."""

COMPUTE_VERSION = "compute 2.61"
"""Since then a flavor shows its extra specs; key pairs have users, and hypervisors and services UUIDs, since earlier ones."""

RBAC_TYPES: Mapping[str, str] = {
    "networks": "network",
    "security_groups": "security_group",
    "subnetpools": "subnetpool",
    "address_scopes": "address_scope",
    "address_groups": "address_group",
    "policies": "qos_policy",
    "bgpvpns": "bgpvpn",
}
"""Neutron's collections that RBAC policies share, by the key of a list, each with its `object_type`."""

_PARENTS = {"subnets": ("network", "network_id"), "security_group_rules": ("security_group", "security_group_id")}
"""What is shared with what it is a part of: the `object_type` of the whole, and the field that names it."""

ROLELESS = frozenset(("keypairs", "flavors"))
"""Keys of the resources that a service shows to a user without any role; all others need `reader`, which Keystone implies by `member`."""

PARAMETERS_OF_USERS = frozenset(
    (
        *("reservation_id", "name", "status", "image", "flavor", "ip", "ip6", "tags", "tags-any", "not-tags", "not-tags-any"),
        *("changes-since", "changes-before", "locked", "availability_zone", "config_drive", "key_name", "created_at", "launched_at"),
        *("terminated_at", "power_state", "task_state", "vm_state", "progress", "user_id", "hostname"),
        *("limit", "marker", "sort_key", "sort_dir"),
    )
)
"""Parameters of Nova's list of servers that count for who is no administrator (`ServersController._get_server_search_options`)."""

Get = Callable[[str], Awaitable[Any]]
"""Reads a path of a service of this site with the gateway's own account; `None` if there is nothing."""


@dataclass(frozen=True)
class Viewer:
    """The user of a token that has access rules, as Keystone confirms them.

    Attributes:
        user: the user's id.
        project: the project's id; empty if the token is of none.
        admin: True if the user is an administrator, who sees everything.
        reader: True if the user may read what belongs to the project.
    """

    user: str
    project: str
    admin: bool
    reader: bool


def attach(application: web.Application, sites: Sites) -> None:
    """Answer other gateways: `GET /atoll/sight/SERVICE/PATH` with the user's token."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            target = parse(request.raw_path.removeprefix("/atoll/sight"))
            reply = await _here(sites, request.headers.get("X-Auth-Token", ""), target.service, target.path, target.query)
        except Refused as refused:
            raise web.HTTPBadRequest(text=refused.message) from refused
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")

    application.router.add_get(PATH, answer)


async def see(sites: Sites, site: str, token: str, service: str, target: str) -> Reply:
    """Look at something for a user whose token is refused for looking.

    Args:
        sites: to ask.
        site: where to look.
        token: the user's.
        service: whose the thing is.
        target: its path, or that of a list, with a query.

    Returns:
        200 with what the service shows to the gateway's own account, of a list the part that the user may see; 404 if the user may see
        nothing; 403 if it is not for access rules that the token was refused.

    Raises:
        Unreachable: the site does not answer.
    """
    path, _, query = target.partition("?")
    if site == sites.here:
        return await _here(sites, token, service, path, query)
    call = Call("GET", "atoll", f"/sight/{service}{path}", query, CIMultiDict({"X-Auth-Token": token}), None, request_id(None))
    reply = await sites.send(site, call)
    if reply.status >= 500:
        raise Unreachable(site, f"its gateway can't look (HTTP {reply.status})")
    return reply if reply.status in {200, 404} else json_reply(403, {}, site)


async def restricted(sites: Sites, token: str) -> Viewer | None:
    """Return the user of a token if it is good and has access rules; else `None`.

    Raises:
        Unreachable: Keystone does not say.
    """
    if not token:
        return None
    headers = {"X-Auth-Token": await sites.own_token("image"), "X-Subject-Token": token, "OpenStack-Identity-Access-Rules": "1.0"}
    reply = await sites.send(
        sites.here, Call("GET", "identity", "/v3/auth/tokens", "nocatalog", CIMultiDict(headers), None, request_id(None))
    )
    said = reply.json()["token"] if reply.status == 200 else {}
    if "access_rules" not in (said.get("application_credential") or {}):
        return None
    roles = {role["name"] for role in said.get("roles", ())}
    return Viewer(str(said["user"]["id"]), str((said.get("project") or {}).get("id", "")), "admin" in roles, "reader" in roles)


async def _here(sites: Sites, token: str, service: str, path: str, query: str) -> Reply:
    """`see`, at this site."""
    if service not in GATEWAY_SERVICES or (viewer := await restricted(sites, token)) is None:
        return json_reply(403, {}, sites.here)
    own = await sites.own_token(service)
    headers = CIMultiDict({"X-Auth-Token": own, "OpenStack-API-Version": COMPUTE_VERSION, "Accept": "application/json"})

    async def get(target: str) -> Any:
        asked, _, more = target.partition("?")
        reply = await sites.send(sites.here, Call("GET", service, asked, more, headers, None, request_id(None)))
        return reply.json() if reply.status == 200 and reply.body else None

    if "/os-keypairs" in path:
        mine = [pair for pair in parse_qsl(query) if pair[0] != "user_id"]
        query = urlencode([*mine, ("user_id", viewer.user)])
    route = match("GET", service, path)
    if route.operation is Operation.LIST and route.resource is COMPUTE["servers"]:
        query = _of_project(query, viewer)
    body = await get(f"{path}?{query}" if query else path)
    seen = await _seen(viewer, service, path, body, get)
    return json_reply(404, {}, sites.here) if seen is None else json_reply(200, seen, sites.here)


def _of_project(query: str, viewer: Viewer) -> str:
    """Have Nova list the servers of the user's project to the gateway's account; those of all projects, if an administrator wants them."""
    asked = parse_qsl(query, keep_blank_values=True)
    if viewer.admin and any(name == "all_tenants" for name, _value in asked):
        return query
    if not viewer.admin:  # Nova drops the others
        asked = [pair for pair in asked if pair[0] in PARAMETERS_OF_USERS]
    return urlencode([*(pair for pair in asked if pair[0] not in _PROJECTS), ("all_tenants", "1"), ("project_id", viewer.project)])


_PROJECTS = frozenset(("all_tenants", "project_id", "tenant_id"))
"""Parameters of Nova's list of servers that say whose are listed."""


async def _seen(viewer: Viewer, service: str, path: str, body: Any, get: Get) -> Any:
    """Return what a user may see of an answer; `None` if nothing."""
    resource = match("GET", service, path).resource
    if body is None or viewer.admin:
        return body
    if resource is None:
        return None
    key, found = resource.key, body if service == "image" else body.get(resource.item)
    if isinstance(body.get(key), list):
        return {**body, key: [each for each in body[key] if await _may_see(viewer, key, each, get)]}  # and where the list goes on
    return body if isinstance(found, dict) and await _may_see(viewer, key, found, get) else None


async def _may_see(viewer: Viewer, key: str, thing: Mapping[str, Any], get: Get) -> bool:
    """Return whether a service shows a thing to a user who is no administrator."""
    if key not in ROLELESS and not viewer.reader:
        return False
    if key == "keypairs":
        return str(thing.get("keypair", thing).get("user_id", viewer.user)) == viewer.user
    if key == "flavors":
        return await uses_flavor(thing, viewer.project, get)
    if key == "images":
        return await uses_image(thing, viewer.project, get)
    if viewer.project and viewer.project in (thing.get("project_id"), thing.get("tenant_id")):
        return True
    kind, identifier = (RBAC_TYPES.get(key), thing.get("id"))
    if key in _PARENTS:
        kind, identifier = _PARENTS[key][0], thing.get(_PARENTS[key][1])
    return bool(kind and identifier and await actions(str(kind), str(identifier), viewer.project, get))


async def uses_flavor(flavor: Mapping[str, Any], project: str, get: Get) -> bool:
    """Return whether a project may use a flavor, by Nova's records."""
    if flavor["os-flavor-access:is_public"]:
        return True
    access = await get(f"/v2.1/flavors/{segment(flavor['id'])}/os-flavor-access") or {}
    return any(each["tenant_id"] == project for each in access.get("flavor_access", ()))


async def uses_image(image: Mapping[str, Any], project: str, get: Get) -> bool:
    """Return whether a project may use an image, by Glance's records."""
    if (project and image.get("owner") == project) or image.get("visibility") in {"public", "community"}:
        return True
    if image.get("visibility") != "shared":
        return False
    members = await get(f"/v2/images/{segment(image['id'])}/members") or {}
    return any(each["member_id"] == project for each in members.get("members", ()))


async def actions(kind: str, identifier: str, project: str, get: Get) -> tuple[str, ...]:
    """Return the actions that Neutron's RBAC policies let a project do with a thing that it does not own."""
    query = urlencode({"object_type": kind, "object_id": identifier})
    policies = (await get(f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
    return tuple(sorted({each["action"] for each in policies if each["target_tenant"] in {project, "*"}}))
