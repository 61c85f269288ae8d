"""Rights and names across three sites: what one owner shares, a name given twice, a token with access rules, and host names."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from deployment import Deployment, until
from holdings import await_status, server
from tenants import PASSWORD, Tenants
from three_sites import SITES

from atoll.bench.api import Answer, Api

KEYS = [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}" for letter in "AB"]
CUT_S = 60


@pytest.fixture
def tenants(prepared) -> Tenants:
    """Reconnect all sites, whatever an earlier test did."""
    prepared.cloud.wan().heal()
    until(lambda: _alive(prepared.cloud), "all sites see each other", CUT_S)
    return prepared


def _alive(cloud: Deployment) -> bool:
    return not any("unreachable" in cloud.atoll("mesh", site) for site in SITES)


def cut(tenants: Tenants, site: str) -> None:
    tenants.cloud.wan().cut(site)
    until(lambda: "unreachable" in tenants.cloud.atoll("mesh", "brest"), f"{site} is away", CUT_S)


def message(answer: Answer) -> str:
    body = answer.body["NeutronError"] if "NeutronError" in answer.body else next(iter(answer.body.values()))
    return str(body["message"])


# Withdrawn rights


def share(api: Api, kind: str, identifier: str, project: str) -> str:
    body = {"object_type": kind, "object_id": identifier, "action": "access_as_shared", "target_tenant": project}
    return str(api.expect("network", "POST", "/v2.0/rbac-policies", {"rbac_policy": body})["rbac_policy"]["id"])


class Shared:
    """A resource of u1 that u2 may use, and the requests that grant and withdraw the right."""

    def __init__(self, tenants: Tenants, kind: str) -> None:
        self.kind, self._tenants = kind, tenants
        self.owner, self.admin = tenants.users["u1", "brest"], tenants.admin["brest"]
        self.id = getattr(self, f"_make_{kind}")()
        self.policy = ""

    def _make_network(self) -> str:
        return self._tenants.network(self.owner, "shared")

    _make_flag = _make_network

    def _make_group(self) -> str:
        body = {"security_group": {"name": f"web-{time.monotonic_ns()}"}}
        return str(self.owner.expect("network", "POST", "/v2.0/security-groups", body)["security_group"]["id"])

    def _make_image(self) -> str:
        return self._tenants.image(self.owner, "mine", visibility="shared")

    def _make_flavor(self) -> str:
        body = {"name": f"private-{time.monotonic_ns()}", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
        return str(self.admin.expect("compute", "POST", "/flavors", {"flavor": body})["flavor"]["id"])

    def give(self) -> None:
        project = self._tenants.ids["p2"]
        if self.kind in {"network", "group"}:
            self.policy = share(self.owner, {"network": "network", "group": "security_group"}[self.kind], self.id, project)
        elif self.kind == "flag":
            self.admin.expect("network", "PUT", f"/v2.0/networks/{self.id}", {"network": {"shared": True}})
        elif self.kind == "image":
            self.owner.expect("image", "POST", f"/v2/images/{self.id}/members", {"member": project})
        else:
            self.admin.expect("compute", "POST", f"/flavors/{self.id}/action", {"addTenantAccess": {"tenant": project}})

    def take_back(self) -> Answer:
        project = self._tenants.ids["p2"]
        if self.policy:
            return self.owner.call("network", "DELETE", f"/v2.0/rbac-policies/{self.policy}")
        if self.kind == "flag":
            return self.admin.call("network", "PUT", f"/v2.0/networks/{self.id}", {"network": {"shared": False}})
        if self.kind == "image":
            return self.owner.call("image", "DELETE", f"/v2/images/{self.id}/members/{project}")
        return self.admin.call("compute", "POST", f"/flavors/{self.id}/action", {"removeTenantAccess": {"tenant": project}})

    def use(self) -> dict[str, Any]:
        """Return the fields of a request for a server that uses the resource."""
        if self.kind in {"network", "flag"}:
            return {"networks": [{"uuid": self.id}]}
        if self.kind == "group":
            return {"networks": [{"uuid": self._tenants.ids["own"]}], "security_groups": [{"name": self.id}]}
        return {"imageRef": self.id} if self.kind == "image" else {"flavorRef": self.id}

    def seen(self, site: str, scope: str = "") -> bool:
        """Return whether u2 sees the resource through a site's gateway, or in a scope."""
        service, path = {
            "image": ("image", f"/v2/images/{self.id}"),
            "flavor": ("compute", f"/flavors/{self.id}"),
            "group": ("network", f"/v2.0/security-groups/{self.id}"),
        }.get(self.kind, ("network", f"/v2.0/networks/{self.id}"))
        headers = {"X-Scope": scope} if scope else {}
        return self._tenants.users["u2", site].call(service, "GET", path, headers=headers).status == 200

    def nowhere(self) -> bool:
        return not any(self.seen(site) for site in SITES)


@pytest.fixture(scope="module")
def own(prepared) -> None:
    prepared.ids["own"] = prepared.network(prepared.users["u2", "brest"], "own")


KINDS = ("network", "flag", "group", "image", "flavor")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("own")
def test_right_that_is_taken_back_is_gone_at_every_site(tenants, kind):
    shared, user = Shared(tenants, kind), tenants.users["u2", "brest"]
    shared.give()
    made = tenants.booted(user, "metz", **shared.use())
    if kind in {"network", "flag", "group"}:
        refused = shared.take_back()
        assert refused.status == 409, "the shared resource is in use at metz"
        assert "metz" in message(refused)
        assert shared.seen("brest")
    tenants.delete(user, made)
    assert shared.take_back().ok
    until(shared.nowhere, f"u2 sees the {kind} nowhere", 30)
    assert [tenants.boot(user, zone, **shared.use()).status for zone in SITES] == [400] * 3
    if kind in {"network", "flag", "group"}:
        for site in SITES:
            policies = tenants.admin[site].expect("network", "GET", f"/v2.0/rbac-policies?object_id={shared.id}")["rbac_policies"]
            assert policies == []
    assert tenants.cloud.atoll("pending") == "no operation waits for another site\n"


@pytest.mark.usefixtures("own")
def test_right_that_is_taken_back_while_a_site_is_cut_off_is_gone_there_when_it_is_back(tenants):
    all_, user = [Shared(tenants, kind) for kind in KINDS], tenants.users["u2", "brest"]
    for each in all_:
        each.give()
        tenants.delete(user, tenants.booted(user, "metz", **each.use()))
    cut(tenants, "metz")
    assert all(each.take_back().ok for each in all_)
    assert all(not each.seen("pau") for each in all_)
    assert all(each.seen("metz") for each in all_), "metz is cut off and can't know of the withdrawal yet"
    waiting = tenants.cloud.atoll("pending")
    assert waiting.count("metz") >= len(all_), waiting
    tenants.cloud.wan().heal()
    until(lambda: all(each.nowhere() for each in all_), "metz has taken it all back", CUT_S)
    until(lambda: tenants.cloud.atoll("pending") == "no operation waits for another site\n", "nothing is left to be done", CUT_S)


def test_policy_is_made_where_its_object_is(tenants):
    owner, project = tenants.users["u1", "metz"], tenants.ids["p2"]
    network = tenants.network(tenants.users["u1", "brest"], "elsewhere")
    policy = share(owner, "network", network, project)
    found = tenants.admin["brest"].call("network", "GET", f"/v2.0/rbac-policies/{policy}", headers={"X-Scope": "network:brest"})
    assert found.status == 200
    made = tenants.booted(tenants.users["u2", "pau"], "pau", networks=[{"uuid": network}])
    tenants.delete(tenants.users["u2", "pau"], made)
    assert tenants.users["u1", "pau"].call("network", "DELETE", f"/v2.0/rbac-policies/{policy}").status == 204


# Names


def key_pair(api: Api, name: str, key: str = KEYS[0]) -> Answer:
    return api.call("compute", "POST", "/os-keypairs", {"keypair": {"name": name, "type": "ssh", "public_key": key}})


def test_name_that_another_site_has_is_refused(tenants):
    users, admin = {site: tenants.users["u1", site] for site in SITES}, tenants.admin
    assert key_pair(users["brest"], "laptop").status == 201
    refused = key_pair(users["metz"], "laptop", KEYS[1])
    assert (refused.status, message(refused)) == (409, "Key pair 'laptop' already exists.")
    assert key_pair(tenants.users["u2", "metz"], "laptop", KEYS[1]).status == 201, "another user may have a key pair of this name"
    for user in ("u1", "u2"):
        assert tenants.users[user, "pau"].call("compute", "DELETE", "/os-keypairs/laptop").status == 204

    def flavor(site: str, name: str, identifier: str) -> Answer:
        body = {"name": name, "id": identifier, "ram": 64, "vcpus": 1, "disk": 1}
        return admin[site].call("compute", "POST", "/flavors", {"flavor": body})

    assert flavor("brest", "small", "s1").ok
    assert message(flavor("metz", "small", "s2")) == "Flavor with name small already exists."
    assert message(flavor("pau", "other", "s1")) == "Flavor with ID s1 already exists."
    given = "5b0d7d11-7c1e-4ab6-9d3d-8d5d8c1c7f00"
    image = {"id": given, "name": "given", "disk_format": "raw", "container_format": "bare"}
    assert admin["brest"].call("image", "POST", "/v2/images", image).status == 201
    assert message(admin["metz"].call("image", "POST", "/v2/images", image)) == f"Image ID {given} already exists!"
    network = {"network": {"id": given}}
    assert admin["brest"].call("network", "POST", "/v2.0/networks", network).status == 201
    assert message(admin["metz"].call("network", "POST", "/v2.0/networks", network)) == f"There is a network with id {given} already."


def test_of_simultaneous_creations_one_succeeds(tenants):
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            statuses = list(pool.map(lambda site: key_pair(tenants.users["u1", site], "race").status, SITES))
            assert sorted(statuses) == [201, 409, 409]
            assert tenants.users["u1", "brest"].call("compute", "DELETE", "/os-keypairs/race").status == 204


def test_name_given_at_two_sites_apart_is_told_and_means_one_thing(tenants):
    users, conflicts = {site: tenants.users["u1", site] for site in SITES}, tenants.cloud.atoll
    cut(tenants, "metz")
    assert [key_pair(users[site], "desk", key).status for site, key in (("brest", KEYS[0]), ("metz", KEYS[1]))] == [201, 201]
    tenants.cloud.wan().heal()
    until(lambda: all("desk of user" in conflicts("conflicts", site) for site in SITES), "all sites tell it", CUT_S)

    def shown(site: str) -> Answer:
        return users[site].call("compute", "GET", "/os-keypairs/desk")

    assert shown("brest").body["keypair"]["public_key"] == KEYS[0]
    assert shown("metz").body["keypair"]["public_key"] == KEYS[1]
    assert {shown(site).headers["x-atoll-differs"] for site in SITES} == {"brest,metz"}
    statuses = {
        (site, zone): tenants.boot(users[site], zone, key_name="desk").status for site in ("brest", "metz") for zone in ("brest", "metz")
    }
    assert statuses == {("brest", "brest"): 202, ("metz", "metz"): 202, ("brest", "metz"): 409, ("metz", "brest"): 409}
    assert users["pau"].call("compute", "DELETE", "/os-keypairs/desk").status == 409
    assert users["brest"].call("compute", "DELETE", "/os-keypairs/desk").status == 204
    assert shown("metz").body["keypair"]["public_key"] == KEYS[1], "metz holds another key pair under this name"
    until(lambda: not any("desk of user" in conflicts("conflicts", site) for site in SITES), "it is resolved", CUT_S)
    assert shown("brest").body["keypair"]["public_key"] == KEYS[1]
    assert users["brest"].call("compute", "DELETE", "/os-keypairs/desk").status == 204


# Tokens with access rules, and others


def test_token_that_may_only_create_servers_does_so_at_every_site(tenants):
    user, name = tenants.users["u1", "brest"], f"rules-{time.monotonic_ns()}"
    network = tenants.network(user, "rules")
    group = user.expect("network", "POST", "/v2.0/security-groups", {"security_group": {"name": name}})["security_group"]["id"]
    image = tenants.image(user, "private")
    assert key_pair(user, name).status == 201
    token = tenants.credential("u1", [("compute", "POST", "/v2.1/servers")])
    use = {"networks": [{"uuid": network}], "security_groups": [{"name": group}], "imageRef": image, "key_name": name}
    made = {}
    for site in SITES:
        limited = tenants.with_token("brest", token)
        answer = tenants.boot(limited, site, **use)
        assert answer.status == 202, (site, answer.body)
        made[site] = answer.body["server"]["id"]
        await_status(user, made[site], "ACTIVE")
        found = server(user, made[site])
        assert (found["key_name"], [each["name"] for each in found["security_groups"]], list(found["addresses"])) == (
            name,
            [name],
            ["rules"],
        )
    limited = tenants.with_token("pau", token)
    for method, service, path in (
        ("GET", "compute", "/servers"),
        ("GET", "image", f"/v2/images/{image}"),
        ("DELETE", "compute", f"/servers/{made['metz']}"),
    ):
        assert limited.call(service, method, path).status == 401, "no access rule allows this request"
    deleting = tenants.with_token("pau", tenants.credential("u1", [("compute", "DELETE", "/v2.1/servers/{server_id}")]))
    for identifier in made.values():
        assert deleting.call("compute", "DELETE", f"/servers/{identifier}").status == 204
    assert deleting.call("compute", "DELETE", f"/servers/{image}").status == 404, "no server has the id of the image"


def test_token_with_access_rules_sees_no_more_than_its_project(tenants):
    """Another project's resources stay hidden, although the gateway reads with its own account."""
    other = tenants.users["u2", "brest"]
    network, image = tenants.network(other, "theirs"), tenants.image(other, "theirs")
    group = other.expect("network", "POST", "/v2.0/security-groups", {"security_group": {"name": "theirs"}})["security_group"]["id"]
    limited = tenants.with_token("metz", tenants.credential("u1", [("compute", "POST", "/v2.1/servers")]))
    mine = tenants.network(tenants.users["u1", "brest"], "mine")
    for use in (
        {"networks": [{"uuid": network}]},
        {"imageRef": image},
        {"networks": [{"uuid": mine}], "security_groups": [{"name": group}]},
    ):
        assert tenants.boot(limited, "metz", **use).status == 400, use
    for method, path, body in (("POST", "/v2/images", {"name": "x"}), ("GET", "/v2/images", None)):
        for scope in ({}, {"X-Scope": "image:brest&metz"}):
            assert limited.call("image", method, path, body, headers=scope).status == 401, "a scope must not bypass the access rules"


RULES = {
    ("compute", "GET", "/servers"): ["/v2.1/servers", "/v2.1/*", "/v2.1/**", "/**", "/compute/v2.1/servers"],
    ("network", "GET", "/v2.0/networks"): ["/v2.0/networks", "/v2.0/{collection}", "/network/v2.0/networks"],
    ("image", "GET", "/v2/images"): ["/v2/images", "/v2/**"],
    ("placement", "GET", "/usages?project_id={p1}"): ["/usages"],
}


@pytest.mark.long
@pytest.mark.parametrize(("service", "method", "path"), RULES)
def test_every_form_of_rule_at_every_service(tenants, service, method, path):
    path = path.format(**tenants.ids)
    tenants.booted(tenants.users["u1", "brest"], "metz")  # lists are merged by fields that access rules may hide
    expected = tenants.users["u1", "brest"].call(service, method, path).status
    rules = RULES[next(each for each in RULES if each[0] == service)]
    for rule in rules:
        token = tenants.credential("u1", [(service, method, rule)])
        for site in SITES:
            limited = tenants.with_token(site, token)
            assert limited.call(service, method, path).status == expected, (rule, site)
        assert limited.call(service, method, path, headers={"X-Scope": f"{service}:metz"}).status == expected, rule
    for other in ("/v2.1/server", "/v2/**/x", ""):
        token = tenants.credential("u1", [(service, method, other or "/nothing"), ("identity", method, "/**")])
        assert tenants.with_token("metz", token).call(service, method, path).status == 401, other


def scoped(tenants: Tenants, scope: dict[str, Any]) -> str:
    password = {"user": {"name": "admin", "domain": {"id": "default"}, "password": tenants.cloud.settings("brest").secrets["admin"]}}
    return tenants.token("brest", {"identity": {"methods": ["password"], "password": password}, "scope": scope})


def of_domain(tenants: Tenants) -> str:
    """Return an administrator's token for the default domain."""
    admin = tenants.admin["brest"]
    (user,) = admin.expect("identity", "GET", "/users?name=admin")["users"]
    (role,) = admin.expect("identity", "GET", "/roles?name=admin")["roles"]
    assert admin.call("identity", "PUT", f"/domains/default/users/{user['id']}/roles/{role['id']}").status == 204
    return scoped(tenants, {"domain": {"id": "default"}})


def trusted(tenants: Tenants) -> str:
    """Return a token of u2 for a trust of u1."""
    member = next(each["id"] for each in tenants.admin["brest"].expect("identity", "GET", "/roles?name=member")["roles"])
    ids = tenants.ids
    body = {
        "trustor_user_id": ids["u1"],
        "trustee_user_id": ids["u2"],
        "project_id": ids["p1"],
        "impersonation": True,
        "roles": [{"id": member}],
    }
    trust = tenants.users["u1", "brest"].expect("identity", "POST", "/OS-TRUST/trusts", {"trust": body})["trust"]["id"]
    password = {"user": {"id": ids["u2"], "password": PASSWORD}}
    method = {"methods": ["password"], "password": password}
    return tenants.token("brest", {"identity": method, "scope": {"OS-TRUST:trust": {"id": trust}}})


def revoked(tenants: Tenants) -> str:
    token = tenants.credential("u1", None)
    api = tenants.with_token("brest", token)
    assert api.call("identity", "DELETE", "/auth/tokens", headers={"X-Subject-Token": token}).status == 204

    def refuses(site: str) -> bool:
        return tenants.with_token(site, token).call("compute", "GET", "/servers").status == 401

    until(lambda: all(refuses(site) for site in tenants.sites), "the token is refused at all sites", 30)
    return token


TOKENS: dict[str, Callable[[Tenants], str]] = {
    "restricted": lambda tenants: tenants.credential("u1", None),
    "unrestricted": lambda tenants: tenants.credential("u1", None, unrestricted=True),
    "of the system": lambda tenants: scoped(tenants, {"system": {"all": True}}),
    "of a domain": of_domain,
    "of a trust": trusted,
    "revoked": revoked,
    "malformed": lambda _tenants: "gAAAAABnothing",
}


@pytest.mark.long
@pytest.mark.parametrize("kind", TOKENS)
def test_through_another_site_a_token_gets_the_status_of_the_things_own_site(tenants, kind):
    user = tenants.users["u1", "brest"]
    made = tenants.booted(user, "metz")
    port = user.expect("network", "POST", "/v2.0/ports", {"port": {"network_id": tenants.network(user, "of-brest")}})["port"]["id"]
    token = TOKENS[kind](tenants)
    asked = [
        ("compute", "GET", f"/servers/{made}", None),
        ("compute", "PUT", f"/servers/{made}", {"server": {"name": "other"}}),
        ("compute", "POST", f"/servers/{made}/action", {"unlock": None}),
        ("compute", "POST", "/servers", {"server": {"name": "x"}}),
        ("compute", "GET", f"/servers/{port}", None),
        ("network", "GET", f"/v2.0/ports/{port}", None),
        ("network", "PUT", f"/v2.0/ports/{port}", {"port": {"name": "other"}}),
        ("image", "PATCH", f"/v2/images/{made}", None),
        ("compute", "DELETE", f"/servers/{made}", None),
    ]
    at = {"compute": "metz", "image": "metz", "network": "brest"}
    for service, method, path, body in asked[:-1]:
        statuses = {site: tenants.with_token(site, token).call(service, method, path, body).status for site in (at[service], *SITES)}
        assert set(statuses.values()) == {statuses[at[service]]}, (service, method, path, statuses)
        assert 503 not in statuses.values()
    deleted = tenants.with_token("pau", token).call(*asked[-1][:3]).status
    assert deleted == (401 if kind in {"revoked", "malformed"} else deleted)
    assert deleted in {204, 401, 403}


# Host names


def test_server_of_any_name_boots_at_any_site_by_any_version(tenants):
    user = tenants.users["u1", "brest"]
    network = tenants.network(user, "names")
    hosts = {"café": "cafe", "日本": "", "★ web": "web", "Ünïcode-" * 20: ""}
    for name, site in zip(hosts, ("brest", "metz", "pau", "metz"), strict=True):
        made = tenants.booted(user, site, name=name, networks=[{"uuid": network}])
        found = server(user, made)["OS-EXT-SRV-ATTR:hostname"]
        assert found.isascii()
        assert found == (hosts[name] or found)
        tenants.delete(user, made)
    for version in ("2.1", "2.37", "2.90", "2.100"):
        body = {"name": "Zürich", "imageRef": tenants.ids["image"], "flavorRef": tenants.ids["flavor"], "networks": [{"uuid": network}]}
        asked = {"server": {**body, "availability_zone": "pau"}}
        answer = user.call("compute", "POST", "/servers", asked, headers={"OpenStack-API-Version": f"compute {version}"})
        assert answer.status == 202, (version, answer.body)
        await_status(user, answer.body["server"]["id"], "ACTIVE")
        assert server(user, answer.body["server"]["id"])["OS-EXT-SRV-ATTR:hostname"] == "zurich"
        tenants.delete(user, answer.body["server"]["id"])
