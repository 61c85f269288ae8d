"""The contents of a site, read through its APIs as administrator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.bench.api import Answer, Api
from atoll.bench.failure import failed
from atoll.bench.faults.client import Client, Insider
from atoll.identifiers import GATEWAY_SERVICES, LOCAL_USERS, gateway_role, local_user

_LISTS = {
    "users": ("/users", ("name", "domain_id", "enabled", "description", "default_project_id")),
    "projects": ("/projects", ("name", "domain_id", "enabled", "description", "parent_id")),
    "domains": ("/domains", ("name", "enabled")),
    "groups": ("/groups", ("name", "domain_id")),
    "roles": ("/roles", ("name", "domain_id")),
}
"""For each kind, the path of its list and the fields that must be equal at all sites."""

_MOST = 1000  # the greatest number of rows that the APIs return in one answer


def look(site: str, insider: Insider, client: Client, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a site: the fields of `View`.

    Args:
        site: the name of the site.
        insider: a client of the site's own services, signed in.
        client: a client of the site's gateway, signed in.
        details: `identity_only`: whether to read only Keystone, which is quick; `paths`: resources to request from the gateway, as pairs of
            service and path; `passwords`: passwords to try, by user.

    Raises:
        AtollError, OSError, http.client.HTTPException: the site could not be read.
    """
    if details.get("identity_only"):
        return {"site": site, "identity": _identity(insider, site)}
    servers = _servers(insider)
    listed, missing = _listed(client)
    return {
        "site": site,
        "identity": _identity(insider, site),
        "images": {each["id"]: _fields(each, ("name", "status", "size", "checksum", "owner")) for each in _images(insider)},
        "servers": servers,
        "networks": _networks(insider),
        "ports": _ports(insider),
        "allocations": _allocations(insider),
        "listed": listed,
        "missing": missing,
        "shown": _shown(client, details.get("paths", ())),
        "accepted": {user: _accepted(insider, user, words) for user, words in details.get("passwords", {}).items()},
    }


def _fields(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in names}


def _identity(api: Api, site: str) -> dict[str, dict[str, Any]]:
    own = {local_user(site, name) for name in (*LOCAL_USERS, *map(gateway_role, GATEWAY_SERVICES))}
    found: dict[str, dict[str, Any]] = {}
    for kind, (path, fields) in _LISTS.items():
        rows = api.expect("identity", "GET", path)[kind]
        found[kind] = {row["id"]: _fields(row, fields) for row in rows if row["id"] not in own}
    assignments = api.expect("identity", "GET", "/role_assignments")["role_assignments"]
    found["assignments"] = {_spelled(each): {} for each in assignments if each.get("user", {}).get("id") not in own}
    return found


def _spelled(assignment: Mapping[str, Any]) -> str:
    """Return role, actor and target of an assignment as one string, in the form that `workloads.grants` uses as an id."""
    actor = assignment.get("user") or assignment.get("group") or {}
    scope = assignment["scope"]
    target = "/".join(each["id"] if isinstance(each, dict) and "id" in each else kind for kind, each in scope.items())
    inherited = "".join(f"/{name}" for name in ("OS-INHERIT:inherited_to",) if name in scope)
    return f"{assignment['role']['id']}/{actor.get('id', '')}/{target}{inherited}"


def _images(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    path = f"/v2/images?limit={_MOST}"
    while path:
        page = api.expect("image", "GET", path)
        found += page["images"]
        path = page.get("next", "")
    return found


def _servers(api: Api) -> dict[str, dict[str, Any]]:
    rows = api.expect("compute", "GET", f"/servers/detail?all_tenants=1&limit={_MOST}")["servers"]
    states = {"task": "OS-EXT-STS:task_state", "zone": "OS-EXT-AZ:availability_zone"}
    plain = ("name", "status", "tenant_id", "user_id")
    return {row["id"]: _fields(row, plain) | {name: row.get(key) for name, key in states.items()} for row in rows}


def _networks(api: Api) -> dict[str, dict[str, Any]]:
    rows = api.expect("network", "GET", "/v2.0/networks")["networks"]
    return {row["id"]: _fields(row, ("name", "project_id")) for row in rows}


def _ports(api: Api) -> dict[str, dict[str, Any]]:
    rows = api.expect("network", "GET", "/v2.0/ports")["ports"]
    return {row["id"]: _fields(row, ("device_id", "device_owner", "project_id", "network_id")) for row in rows}


def _allocations(api: Api) -> list[str]:
    consumers: set[str] = set()
    for provider in api.expect("placement", "GET", "/resource_providers")["resource_providers"]:
        consumers.update(api.expect("placement", "GET", f"/resource_providers/{provider['uuid']}/allocations")["allocations"])
    return sorted(consumers)


def _listed(client: Client) -> tuple[dict[str, list[str]], list[str]]:
    """Return the ids in the gateway's lists of all sites, and the sites that are missing from them."""
    missing: set[str] = set()
    found: dict[str, list[str]] = {}
    paths = {"image": ("image", "/v2/images", "images"), "server": ("compute", "/servers?all_tenants=1", "servers")}
    for type_, (service, path, key) in paths.items():
        answer = _ok(client.call(service, "GET", f"{path}{'&' if '?' in path else '?'}limit={_MOST}"), path)
        found[type_] = [row["id"] for row in answer.body[key]]
        missing.update(filter(None, answer.headers.get("x-atoll-missing", "").split(",")))
    return found, sorted(missing)


def _ok(answer: Answer, path: str) -> Answer:
    if not answer.ok:
        raise failed(f"GET {path}: HTTP {answer.status}: {str(answer.body)[:200]}")
    return answer


def _shown(client: Client, paths: Iterable[tuple[str, str]]) -> dict[str, int]:
    asked = list(paths)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda each: client.call(each[0], "GET", each[1]).status, asked))
    return {path: status for (_service, path), status in zip(asked, statuses, strict=True)}


def _accepted(api: Api, user: str, passwords: Iterable[str]) -> list[str]:
    return [word for word in passwords if _accepts(api, user, word)]


def _accepts(api: Api, user: str, password: str) -> bool:
    identity = {"methods": ["password"], "password": {"user": {"id": user, "password": password}}}
    return api.call("identity", "POST", "/auth/tokens", {"auth": {"identity": identity, "scope": "unscoped"}}).status == 201
