"""Reads resources for users whose application credential has access rules that forbid reading.

A credential may allow `POST /v2.1/servers` and nothing else. At a single site that suffices, because Nova reads the image and the networks
with its own rights. The gateway, however, may have to read a resource for a request that a service has accepted, with a token that may not
read. Then the gateway of the resource's site validates the token, reads with its own account, and returns the resources that the token's
project may see by the rules of the services. The answer does not reach the client. Tokens without access rules get no such answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply, to_gateway
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused, parse
from atoll.gateway.resolve.routes import COMPUTE, Operation, Resource, match
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_SERVICES

PATH = "/atoll/sight/{target:.*}"
"""Path at the peer port, followed by the service and the path to read."""

REFUSALS = (401, 403)
"""Statuses by which a service refuses a token, or the request with this token."""

COMPUTE_VERSION = "compute 2.61"
"""The first microversion in which a flavor shows its extra specs. In it, key pairs also have users, and hypervisors and services UUIDs."""

RBAC_TYPES: Mapping[str, str] = {
    "networks": "network",
    "security_groups": "security_group",
    "subnetpools": "subnetpool",
    "address_scopes": "address_scope",
    "address_groups": "address_group",
    "policies": "qos_policy",
    "bgpvpns": "bgpvpn",
}
"""The `object_type` of RBAC policies, by the key of the Neutron collection that they share."""

_PARENTS = {"subnets": ("network", "network_id"), "security_group_rules": ("security_group", "security_group_id")}
"""Parts that are shared together with their parent, by the key of their collection: the parent's `object_type`, and its id's field."""

ROLELESS = frozenset(("keypairs", "flavors"))
"""Keys of the collections that a service shows to users without a role; others need the role `reader`, which `member` implies."""

PARAMETERS_OF_USERS = frozenset(
    (
        *("reservation_id", "name", "status", "image", "flavor", "ip", "ip6", "tags", "tags-any", "not-tags", "not-tags-any"),
        *("changes-since", "changes-before", "locked", "availability_zone", "config_drive", "key_name", "created_at", "launched_at"),
        *("terminated_at", "power_state", "task_state", "vm_state", "progress", "user_id", "hostname"),
        *("limit", "marker", "sort_key", "sort_dir"),
    )
)
"""Parameters of Nova's list of servers that users may use (`ServersController._get_server_search_options`); others are administrators'."""

Get = Callable[[str], Awaitable[Any]]
"""A function that GETs a path of this site's service with the gateway's own account; returns the parsed body, or `None` without a 200."""


@dataclass(frozen=True)
class Viewer:
    """The user of a token with access rules, as Keystone confirms it.

    Attributes:
        user: the user's id.
        project: the id of the token's project; empty if the token has none.
        admin: whether the user is an administrator, who may read everything.
        reader: whether the user may read the resources of the project.
    """

    user: str
    project: str
    admin: bool
    reader: bool


def attach(application: web.Application, sites: Sites) -> None:
    """Add the handler of `GET /atoll/sight/SERVICE/PATH` to the application of the peer port; the request has the user's token."""

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


async def view(sites: Sites, site: str, token: str, service: str, target: str) -> Reply:
    """Read a resource or a list for a user whose token a service refuses.

    Args:
        sites: sends requests to the sites of the cloud.
        site: the site of the resource.
        token: the user's token.
        service: the service of the resource.
        target: the path of the resource or the list, with a query.

    Returns:
        200 with the resource as the service shows it to the gateway's own account, or with the items of a list that the user may see.
        404 if the user may see nothing. 403 if the token has no access rules, or is not valid.

    Raises:
        Unreachable: the site does not answer.
    """
    path, _, query = target.partition("?")
    if site == sites.here:
        return await _here(sites, token, service, path, query)
    call = to_gateway("GET", f"/atoll/sight/{service}{path}", query=query, headers={"X-Auth-Token": token})
    reply = await sites.send(site, call)
    if reply.status >= 500:
        raise Unreachable(site, f"its gateway can't read {service}{path} (HTTP {reply.status})")
    return reply if reply.status in {200, 404} else json_reply(403, {}, site)


async def restricted(sites: Sites, token: str) -> Viewer | None:
    """Return the user of a token that is valid and has access rules; `None` for any other token.

    Raises:
        Unreachable: Keystone does not answer.
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
    """Read a resource or a list of this site; see `view`."""
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
    seen = await _seen(viewer, route.resource, body, get)
    return json_reply(404, {}, sites.here) if seen is None else json_reply(200, seen, sites.here)


def _of_project(query: str, viewer: Viewer) -> str:
    """Return the query by which Nova lists the servers of the user's project, or of all projects if an administrator asks for them."""
    asked = parse_qsl(query, keep_blank_values=True)
    if viewer.admin and any(name == "all_tenants" for name, _value in asked):
        return query
    if not viewer.admin:  # Nova ignores parameters that are only for administrators
        asked = [pair for pair in asked if pair[0] in PARAMETERS_OF_USERS]
    return urlencode([*(pair for pair in asked if pair[0] not in _PROJECTS), ("all_tenants", "1"), ("project_id", viewer.project)])


_PROJECTS = frozenset(("all_tenants", "project_id", "tenant_id"))
"""Parameters of Nova's list of servers that choose the projects."""


async def _seen(viewer: Viewer, resource: Resource | None, body: Any, get: Get) -> Any:
    """Return the part of an answer that a user may see; `None` if there is none."""
    if body is None or viewer.admin:
        return body
    if resource is None:
        return None
    key, found = resource.key, body if resource.service == "image" else body.get(resource.item)
    if isinstance(body.get(key), list):
        return {**body, key: [each for each in body[key] if await _may_see(viewer, key, each, get)]}  # the link to the next page stays
    return body if isinstance(found, dict) and await _may_see(viewer, key, found, get) else None


async def _may_see(viewer: Viewer, key: str, thing: Mapping[str, Any], get: Get) -> bool:
    """Return whether a service shows a resource to a user who is not an administrator."""
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
    """Return the actions on a resource that Neutron's RBAC policies allow to a project that does not own it."""
    query = urlencode({"object_type": kind, "object_id": identifier})
    policies = (await get(f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
    return tuple(sorted({each["action"] for each in policies if each["target_tenant"] in {project, "*"}}))
