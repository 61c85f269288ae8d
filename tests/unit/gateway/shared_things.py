"""Sites whose Nova and Neutron share resources with projects, for the tests of what is brought and of who may use it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from bring_sites import Site, Sites, running

OURS, THEIRS = "ours", "theirs"
KEYS = {
    "networks": "network",
    "subnets": "subnet",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "rbac-policies": "rbac_policy",
    "ports": "port",
    "floatingips": "floatingip",
    "trunks": "trunk",
    "qos/policies": "policy",
    "servers": "server",
    "os-server-groups": "server_group",
}
FLAVOR_BODY = {
    "id": "f", "name": "small", "ram": 1, "vcpus": 1, "disk": 1, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 0, "rxtx_factor": 1.0,
    "os-flavor-access:is_public": True, "description": None, "extra_specs": {"a": "b"}, "links": [],
}  # fmt: skip
NETWORK_BODY = {
    "id": "n",
    "name": "n",
    "project_id": OURS,
    "provider:network_type": "vlan",
    "shared": False,
    "tags": ["t"],
    "description": "",
}
SUBNET_BODY = {
    "id": "s",
    "network_id": "n",
    "project_id": OURS,
    "cidr": "10.0.0.0/24",
    "ip_version": 4,
    "gateway_ip": None,
    "ipv6_ra_mode": None,
}


def rule(name: str, group: str, remote: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "security_group_id": group, "project_id": OURS, "direction": "ingress", "remote_group_id": remote, **more}


def group(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "project_id": OURS, "security_group_rules": list(rules)}


class Cloud(Site):
    """A site with collections of resources, which are created, deleted and recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.things: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[str, str, str, Any]] = []
        self.project = OURS
        self.refuse = ""
        self.access: list[dict[str, str]] = []
        self.application.router.add_route("*", "/{service}/{version}/{path:.*}", self._any)

    async def _any(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if request.method == "GET":
            return self._get(request, path) if request.headers["X-Auth-Token"] == "admin" or self.shown(path) else web.Response(status=404)
        body = await request.json() if request.body_exists else None
        self.changes.append((request.method, path, request.headers["X-Auth-Token"], body))
        if request.method == "DELETE":
            return web.Response(status=204 if self.things.pop(path, None) else 404)
        if self.refuse and path.startswith(self.refuse):
            raise web.HTTPForbidden
        return self._make(path, body)

    def shown(self, path: str) -> bool:
        """Return whether the user's project sees a resource: its own, or one that this site shares with it."""
        thing = self.things.get(path, {})
        if thing.get("os-flavor-access:is_public") is False:
            return {"tenant": self.project} in self.access
        if thing.get("project_id", self.project) == self.project:
            return True
        return any(each["object_id"] == thing["id"] and each["target_tenant"] in {self.project, "*"} for each in self.policies())

    def policies(self) -> list[dict[str, Any]]:
        return [thing for key, thing in self.things.items() if key.startswith("rbac-policies/")]

    def share(self, kind: str, identifier: str, project: str = "*", action: str = "access_as_shared") -> str:
        """Create an RBAC policy as an owner does; return its id."""
        policy = str(uuid.uuid4())
        self.things[f"rbac-policies/{policy}"] = {
            "id": policy,
            "object_type": kind,
            "object_id": identifier,
            "action": action,
            "target_tenant": project,
            "project_id": THEIRS,
        }
        return policy

    def _get(self, request: web.Request, path: str) -> web.Response:
        if path in KEYS:
            found = [thing for key, thing in self.things.items() if key.startswith(f"{path}/")]
            found = [thing for thing in found if all(thing.get(name) == value for name, value in request.query.items() if name != "fields")]
            return web.json_response({path.replace("-", "_"): found})
        if path.endswith("/os-flavor-access"):
            access = [{"flavor_id": path.split("/")[1], "tenant_id": each["tenant"]} for each in self.access]
            return web.json_response({"flavor_access": access})
        if path not in self.things:
            raise web.HTTPNotFound
        collection = path.rpartition("/")[0]
        key = KEYS.get(collection) or {"flavors": "flavor", "os-keypairs": "keypair"}[collection]
        return web.json_response({key: self._with_parts(collection, self.things[path])})

    def _with_parts(self, collection: str, thing: dict[str, Any]) -> dict[str, Any]:
        """Return a resource with the parts that Neutron shows in it."""
        if collection == "networks":
            subnets = [each for key, each in self.things.items() if key.startswith("subnets/")]
            return {"subnets": [each["id"] for each in subnets if each.get("network_id") == thing["id"]], **thing}
        if collection == "security-groups":
            rules = [each for key, each in self.things.items() if key.startswith("security-group-rules/")]
            return {"security_group_rules": [each for each in rules if each.get("security_group_id") == thing["id"]], **thing}
        return thing

    def _make(self, path: str, body: Any) -> web.Response:
        made = next(iter(body.values())) if isinstance(body, dict) else None
        if path in {*KEYS, "flavors", "os-keypairs"}:
            for thing in made if isinstance(made, list) else [made]:
                key = f"{path}/{thing.get('id') or thing.get('name') or uuid.uuid4()}"
                if key in self.things:
                    raise web.HTTPConflict
                self.things[key] = {"id": key.rpartition("/")[2], **thing}
            if path == "security-groups":
                egress = {"id": "default-egress", "security_group_id": made["id"]}
                made = {**made, "security_group_rules": [egress]}
                self.things["security-group-rules/default-egress"] = egress
            if path == "os-keypairs":
                return web.json_response({"keypair": {"user_id": "u", **made}}, status=201)
            return web.json_response({KEYS.get(path, "x"): made}, status=201)
        if path.endswith("/action"):
            if "addTenantAccess" in body:
                self.access.append(body["addTenantAccess"])
            elif body["removeTenantAccess"] in self.access:
                self.access.remove(body["removeTenantAccess"])
            else:
                return web.Response(status=404)
        return web.json_response({})

    def made(self, path: str) -> list[Any]:
        return [body for method, asked, _, body in self.changes if method == "POST" and asked == path]

    def deleted(self) -> list[str]:
        return [path for method, path, _, _ in self.changes if method == "DELETE"]


def trial(tmp_path: Path, act: Callable[[Cloud, Cloud, Cloud, list[Sites]], Awaitable[None]]) -> None:
    """Call `act` with three clouds, and the view that each of their gateways has of the sites."""

    async def main() -> None:
        sites = here, lyon, nice = Cloud("here"), Cloud("lyon"), Cloud("nice")
        async with running(*sites, data=tmp_path) as views:
            await act(here, lyon, nice, views)

    asyncio.run(main())
