"""Reading for a token whose access rules forbid it, and the treatment of refusals by other sites."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest
from multidict import CIMultiDict

from atoll.gateway.copies import ownership
from atoll.gateway.copies.in_use import InUseCheck
from atoll.gateway.request.call import GATEWAY, Call, Reply, Unreachable, json_reply
from atoll.gateway.request.headers import ACCEPTS
from atoll.gateway.resolve.locate import holders, search
from atoll.gateway.resolve.visibility import PARAMETERS_OF_USERS, ROLELESS, restricted, view

LIMITED = {
    "user": {"id": "u"},
    "project": {"id": "ours"},
    "roles": [{"name": "member"}, {"name": "reader"}],
    "application_credential": {"access_rules": []},
}
TOKENS: Mapping[str, dict[str, Any]] = {
    "limited": LIMITED,
    "admin": {**LIMITED, "roles": [{"name": "admin"}]},
    "plain": {**LIMITED, "application_credential": {"id": "x"}},
    "password": {"user": {"id": "u"}, "roles": []},
    "nowhere": {**LIMITED, "project": None},
    "roleless": {**LIMITED, "roles": [{"name": "watcher"}]},
}


class World:
    """Sites whose services show resources to the gateway's own account alone, and answer users with `refusals`."""

    here = "brest"

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Any]] = {"brest": {}, "metz": {}, "pau": {}}
        self.refusals: dict[str, int] = {}
        self.cut: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def own_token(self, service: str) -> str:
        return f"own {service}"

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        if site in self.cut:
            raise Unreachable(site, "cut off")
        self.asked.append((site, call.target))
        if call.service == GATEWAY:
            _empty, _sight, service, rest = call.path.split("/", 3)
            self.here, before = site, self.here
            try:
                return await view(self, site, call.token, service, f"/{rest}" + (f"?{call.query}" if call.query else ""))
            finally:
                self.here = before
        if call.service == "identity":
            assert (call.token, call.headers["OpenStack-Identity-Access-Rules"]) == ("own image", "1.0")
            token = TOKENS.get(call.headers["X-Subject-Token"])
            return json_reply(200, {"token": token}, site) if token else json_reply(404, {}, site)
        if not call.token.startswith("own"):
            return json_reply(self.refusals.get(site, 401), {}, site)
        assert call.token == f"own {call.service}"
        found = self.things[site].get(call.target)
        return json_reply(404, {}, site) if found is None else json_reply(200, found, site)


def seen(things: dict[str, Any], service: str, target: str, token: str = "limited") -> tuple[int, Any]:
    world = World()
    world.things["brest"] = things
    reply = asyncio.run(view(world, "brest", token, service, target))
    return reply.status, json.loads(reply.body)


def policies(kind: str, identifier: str, *targets: str) -> dict[str, Any]:
    found = [{"action": "access_as_shared", "target_tenant": each} for each in targets]
    return {f"/v2.0/rbac-policies?object_type={kind}&object_id={identifier}": {"rbac_policies": found}}


NETWORK, MINE = {"network": {"id": "n", "project_id": "theirs"}}, {"network": {"id": "n", "project_id": "ours"}}
PRIVATE = {"flavor": {"id": "f", "os-flavor-access:is_public": False}}
IMAGE = {"id": "i", "owner": "theirs", "visibility": "shared"}
ACCESS, MEMBERS = "/v2.1/flavors/f/os-flavor-access", "/v2/images/i/members"


@pytest.mark.parametrize(
    ("service", "target", "things", "shown"),
    [
        ("network", "/v2.0/networks/n", {"/v2.0/networks/n": MINE}, True),
        ("network", "/v2.0/networks/n", {"/v2.0/networks/n": NETWORK}, False),
        ("network", "/v2.0/networks/n", {"/v2.0/networks/n": NETWORK, **policies("network", "n", "other")}, False),
        ("network", "/v2.0/networks/n", {"/v2.0/networks/n": NETWORK, **policies("network", "n", "ours")}, True),
        ("network", "/v2.0/networks/n", {"/v2.0/networks/n": NETWORK, **policies("network", "n", "*")}, True),
        ("network", "/v2.0/networks/n", {}, False),
        ("network", "/v2.0/subnets/s", {"/v2.0/subnets/s": {"subnet": {"id": "s", "network_id": "n", "project_id": "theirs"}}}, False),
        (
            *("network", "/v2.0/subnets/s"),
            {"/v2.0/subnets/s": {"subnet": {"id": "s", "network_id": "n", "project_id": "theirs"}}, **policies("network", "n", "ours")},
            True,
        ),
        ("network", "/v2.0/ports/p", {"/v2.0/ports/p": {"port": {"id": "p", "project_id": "theirs"}}}, False),
        ("network", "/v2.0/qos/policies/q", {"/v2.0/qos/policies/q": {"policy": {"id": "q"}}, **policies("qos_policy", "q", "ours")}, True),
        ("compute", "/v2.1/servers/s", {"/v2.1/servers/s": {"server": {"tenant_id": "ours"}}}, True),
        ("compute", "/v2.1/servers/s", {"/v2.1/servers/s": {"server": {"tenant_id": "theirs"}}}, False),
        ("compute", "/v2.1/os-keypairs/k", {"/v2.1/os-keypairs/k?user_id=u": {"keypair": {"user_id": "u"}}}, True),
        ("compute", "/v2.1/os-keypairs/k?user_id=v", {"/v2.1/os-keypairs/k?user_id=v": {"keypair": {"user_id": "v"}}}, False),
        ("compute", "/v2.1/flavors/f", {"/v2.1/flavors/f": {"flavor": {"id": "f", "os-flavor-access:is_public": True}}}, True),
        ("compute", "/v2.1/flavors/f", {"/v2.1/flavors/f": PRIVATE}, False),
        ("compute", "/v2.1/flavors/f", {"/v2.1/flavors/f": PRIVATE, ACCESS: {"flavor_access": [{"tenant_id": "ours"}]}}, True),
        ("compute", "/v2.1/os-aggregates/1", {"/v2.1/os-aggregates/1": {"aggregate": {}}}, False),
        ("image", "/v2/images/i", {"/v2/images/i": IMAGE}, False),
        ("image", "/v2/images/i", {"/v2/images/i": IMAGE, MEMBERS: {"members": [{"member_id": "ours"}]}}, True),
        (
            "image",
            "/v2/images/i",
            {"/v2/images/i": {**IMAGE, "visibility": "private"}, MEMBERS: {"members": [{"member_id": "ours"}]}},
            False,
        ),
        ("image", "/v2/images/i", {"/v2/images/i": {**IMAGE, "visibility": "community"}}, True),
        ("image", "/v2/images/i", {"/v2/images/i": {**IMAGE, "owner": "ours"}}, True),
    ],
)
def test_project_of_the_token_sees_what_the_service_would_show_it(service, target, things, shown):
    assert seen(things, service, target)[0] == (200 if shown else 404)
    assert seen(things, service, target, "admin")[0] == (
        200 if target.partition("?")[0] in {key.partition("?")[0] for key in things} and "user_id=v" not in target else 404
    )
    for other in ("plain", "password", "unknown", ""):
        assert seen(things, service, target, other)[0] == 403, "expected 403 for a token without access rules"


FILTERS_OF_USERS = """
    import json
    from types import SimpleNamespace
    from nova.api.openstack import api_version_request as versions
    from nova.api.openstack.compute import servers

    request = SimpleNamespace(api_version_request=versions.max_api_version(), is_legacy_v2=lambda: False)
    options = servers.ServersController._get_server_search_options(None, request)
    print(json.dumps(sorted({*options, *servers.PAGING_SORTING_PARAMS} - {"all_tenants"})))
"""


def test_users_filter_servers_by_what_nova_lets_them():
    """Drop filters that only administrators may use, because the gateway's own account is an administrator."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FILTERS_OF_USERS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == sorted(PARAMETERS_OF_USERS)


UPSTREAM = """
    import importlib, json, sys
    from oslo_config import cfg
    from oslo_policy import policy

    def shown(rules, name, roles, **target):
        conf = cfg.ConfigOpts()
        conf([])
        enforcer = policy.Enforcer(conf)
        conf.set_override("enforce_new_defaults", True, group="oslo_policy")
        for rule in rules:
            enforcer.register_default(rule)
        creds = {"roles": roles, "project_id": "ours", "user_id": "u", "system_scope": None, "domain_id": None}
        return enforcer.enforce(name, target, creds)

    found = {}
    for key, (module, name) in json.loads(sys.argv[1]).items():
        rules = list(importlib.import_module(module).list_rules())
        mine = {"project_id": "ours", "tenant_id": "ours", "user_id": "u", "member_id": "", "visibility": "private", "owner": "ours"}
        found[key] = [shown(rules, name, roles, **mine) for roles in ([], ["reader"])]
    print(json.dumps(found))
"""

POLICIES = {
    "images": ("glance.policies", "get_image"),
    "servers": ("nova.policies", "os_compute_api:servers:show"),
    "server_groups": ("nova.policies", "os_compute_api:os-server-groups:show"),
    "keypairs": ("nova.policies", "os_compute_api:os-keypairs:show"),
    **{
        f"{name}s": ("neutron.conf.policies", f"get_{name}")
        for name in ("network", "subnet", "port", "router", "security_group", "address_group", "subnetpool")
    },
}
"""The installed service's policy for reading a resource, by the key of a list; a flavor has none."""


def test_services_ask_for_a_role_of_whom_they_show_a_projects_things():
    """Compare `ROLELESS` with the policies of the installed services."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(UPSTREAM), json.dumps(POLICIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {key: [key in ROLELESS, True] for key in POLICIES}


@pytest.mark.parametrize(
    ("service", "target", "thing", "shown"),
    [
        ("network", "/v2.0/networks/n", MINE, False),
        ("compute", "/v2.1/servers/s", {"server": {"tenant_id": "ours"}}, False),
        ("image", "/v2/images/i", {**IMAGE, "owner": "ours"}, False),
        ("image", "/v2/images/i", {**IMAGE, "visibility": "public"}, False),
        ("compute", "/v2.1/flavors/f", {"flavor": {"id": "f", "os-flavor-access:is_public": True}}, True),
        ("compute", "/v2.1/os-keypairs/k?user_id=u", {"keypair": {"user_id": "u"}}, True),
    ],
)
def test_a_user_without_a_role_sees_what_the_service_would_show(service, target, thing, shown):
    assert seen({target: thing}, service, target, "roleless")[0] == (200 if shown else 404)


def test_of_a_list_only_what_the_project_may_see_is_shown():
    things = {
        "/v2.0/security-groups?name=web": {
            "security_groups": [{"id": str(n), "project_id": "ours" if n == 2 else "theirs"} for n in range(4)]
        }
    }
    things |= policies("security_group", "3", "ours")
    status, body = seen(things, "network", "/v2.0/security-groups?name=web")
    assert (status, [each["id"] for each in body["security_groups"]]) == (200, ["2", "3"])
    assert seen(things, "network", "/v2.0/security-groups?name=web", "nowhere")[1] == {"security_groups": []}


@pytest.mark.parametrize(
    ("token", "query", "asked"),
    [
        ("limited", "limit=2&all_tenants=1&project_id=theirs&tenant_id=theirs", "limit=2&all_tenants=1&project_id=ours"),
        ("limited", "", "all_tenants=1&project_id=ours"),
        ("limited", "host=a&node=b&deleted=1&locked_by=x&name=n&sort_key=name", "name=n&sort_key=name&all_tenants=1&project_id=ours"),
        ("admin", "host=a", "host=a&all_tenants=1&project_id=ours"),
        ("admin", "name=x", "name=x&all_tenants=1&project_id=ours"),
        ("admin", "all_tenants=1&project_id=theirs", "all_tenants=1&project_id=theirs"),
    ],
)
def test_servers_are_listed_for_the_project_of_the_token(token, query, asked):
    """List the user's servers, not those of the gateway's account, and keep the links of a full page."""
    links = [{"rel": "next", "href": "x"}]
    servers = {"servers": [{"id": "a", "tenant_id": "ours"}], "servers_links": links}
    target = f"/v2.1/servers/detail?{query}" if query else "/v2.1/servers/detail"
    assert seen({f"/v2.1/servers/detail?{asked}": servers}, "compute", target, token) == (200, servers)


def test_services_without_an_account_of_the_gateway_show_nothing():
    assert seen({}, "placement", "/usages")[0] == 403
    assert seen({}, "identity", "/v3/users")[0] == 403


def test_keystone_says_whose_a_token_is():
    async def act() -> None:
        world: Any = World()
        viewer = await restricted(world, "limited")
        assert viewer is not None
        assert (viewer.user, viewer.project, viewer.admin) == ("u", "ours", False)
        assert await restricted(world, "") is None

    asyncio.run(act())


def look(token: str, method: str = "GET") -> Call:
    return Call(method, "compute", "/v2.1/servers/s", "", CIMultiDict({"X-Auth-Token": token}), None, "req-1", "u")


SERVER = {"/v2.1/servers/s": {"server": {"tenant_id": "ours"}}}


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_of_another_site_is_never_unreachable(status):
    async def act() -> None:
        world: Any = World()
        world.refusals = {"metz": status, "pau": status}
        world.things["pau"] = SERVER
        found = await search(world, look("limited"), ["metz", "pau"])
        assert found.reply is not None
        assert (found.reply.site, found.holds, found.missing) == ("pau", True, ())
        assert await holders(world, look("limited"), ["brest", "metz", "pau"]) == (["pau"], [])
        world.things["pau"] = {}
        assert await search(world, look("limited"), ["metz", "pau"]) == (type(found))(None, ()), "no site has the resource"
        for token in ("plain", "unknown"):
            stands = await search(world, look(token), ["metz", "pau"])
            assert stands.reply is not None
            assert (stands.reply.status, stands.holds, stands.missing) == (status, False, ())

    asyncio.run(act())


def test_site_that_is_cut_off_may_have_it():
    async def act() -> None:
        world: Any = World()
        world.cut = {"pau"}
        found = await search(world, look("limited"), ["metz", "pau"])
        assert (found.reply, found.missing) == (None, ("pau",))
        assert await holders(world, look("limited"), ["metz", "pau"]) == ([], ["pau"])

    asyncio.run(act())


def test_object_of_a_request_is_named_though_rules_forbid_to_look():
    world: Any = World()
    world.things["brest"] = SERVER
    for token, status in (("limited", 200), ("plain", 401)):
        asked = look(token, "GET")
        asked.headers[ACCEPTS] = "GET"
        reply = asyncio.run(InUseCheck(world).answer(asked))
        assert reply.status == status, token
        assert ownership.read(asked, reply) == ({"owner": "ours"} if status == 200 else {})
