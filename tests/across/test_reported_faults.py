"""The faults that users of such clouds have reported, each as it was reported: one test a row of issue 16.

Three sites with records for guests; u1 and u2 are plain members of projects p1 and p2. "M" is the same through metz's gateway. The other
modules of this directory test the kinds behind the rows.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from deployment import Deployment, until
from holdings import await_status, server
from tenants import Tenants
from three_sites import SITES, Tenant, make_tenant

from atoll.bench.api import Answer, Api

pytestmark = pytest.mark.long

KEYS = [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}" for letter in "AB"]
OLD = {"OpenStack-API-Version": "compute 2.36"}
"""The last microversion in which a server needs no `networks`."""

NEW = {"OpenStack-API-Version": "compute 2.69"}
"""The first microversion in which servers of a cell that is down have the status UNKNOWN."""

THROUGH = pytest.mark.parametrize("through", ["brest", "metz"])


@pytest.fixture
def tenants(cloud, prepared) -> Tenants:
    """Return the tenants of a cloud whose sites all reach each other."""
    return prepared


def make(api: Api, collection: str, **fields: Any) -> dict[str, Any]:
    item = collection.replace("-", "_").removesuffix("s") if collection != "rbac-policies" else "rbac_policy"
    found: dict[str, Any] = api.expect("network", "POST", f"/v2.0/{collection}", {item: fields})[item]
    return found


def at(tenants: Tenants, user: str, site: str, path: str) -> Answer:
    """Return the answer of one site, without the others."""
    return tenants.users[user, site].call("network", "GET", f"/v2.0/{path}", headers={"X-Scope": f"{{network: {site}}}"})


def holders(tenants: Tenants, path: str) -> list[str]:
    return [site for site in SITES if at(tenants, "u1", site, path).ok]


def refusal(answer: Answer, status: int) -> str:
    assert answer.status == status, answer
    return str(next(iter(answer.body.values()))["message"])


def unique(name: str) -> str:
    return f"{name}-{time.monotonic_ns()}"


@pytest.mark.parametrize("kind", ["network", "security_group", "shared flag"])
def test_a_right_that_was_taken_back(tenants, kind):
    u1, u2, admin = tenants.users["u1", "brest"], tenants.users["u2", "brest"], tenants.admin["brest"]
    own = tenants.network(u2, unique("own"))
    if kind == "security_group":
        shared = make(u1, "security-groups", name=unique("g"))["id"]
        path, use = f"security-groups/{shared}", {"networks": [{"uuid": own}], "security_groups": [{"name": shared}]}
    else:
        shared = tenants.network(u1, unique("n"))
        path, use = f"networks/{shared}", {"networks": [{"uuid": shared}]}
    if kind == "shared flag":
        admin.expect("network", "PUT", f"/v2.0/{path}", {"network": {"shared": True}})
    else:
        target = {"target_tenant": tenants.ids["p2"], "action": "access_as_shared"}
        policy = make(u1, "rbac-policies", object_type=kind, object_id=shared, **target)["id"]
    tenants.delete(u2, tenants.booted(u2, "metz", **use))
    if kind == "shared flag":
        admin.expect("network", "PUT", f"/v2.0/{path}", {"network": {"shared": False}})
    else:
        u1.expect("network", "DELETE", f"/v2.0/rbac-policies/{policy}")

    def seen() -> list[str]:
        return [site for site in SITES if tenants.users["u2", site].call("network", "GET", f"/v2.0/{path}").ok]

    until(lambda: not seen(), "u2 sees it nowhere", 30)
    collection = path.partition("/")[0]
    listed = u2.expect("network", "GET", f"/v2.0/{collection}")[collection.replace("-", "_")]
    assert shared not in {each["id"] for each in listed}
    assert [tenants.boot(u2, site, **use).status for site in SITES] == [400] * 3
    for site in SITES:
        left = tenants.admin[site].expect("network", "GET", f"/v2.0/rbac-policies?object_id={shared}")["rbac_policies"]
        assert left == [], f"{site} must have no policy that nobody can see"


def test_b_one_key_pair_of_a_name(tenants):
    brest, metz, name = tenants.users["u1", "brest"], tenants.users["u1", "metz"], unique("laptop")

    def create(api: Api, key: str) -> Answer:
        return api.call("compute", "POST", "/os-keypairs", {"keypair": {"name": name, "type": "ssh", "public_key": key}})

    assert create(brest, KEYS[0]).status == 201
    assert refusal(create(metz, KEYS[1]), 409) == f"Key pair '{name}' already exists."
    made = tenants.booted(brest, "metz", key_name=name)
    assert server(brest, made)["key_name"] == name
    for site in SITES:
        shown = tenants.users["u1", site].expect("compute", "GET", f"/os-keypairs/{name}")["keypair"]
        assert shown["public_key"] == KEYS[0], site
    tenants.delete(brest, made)
    assert brest.call("compute", "DELETE", f"/os-keypairs/{name}").ok
    assert [tenants.users["u1", site].call("compute", "GET", f"/os-keypairs/{name}").status for site in SITES] == [404] * 3
    assert create(metz, KEYS[1]).status == 201
    assert metz.call("compute", "DELETE", f"/os-keypairs/{name}").ok


@THROUGH
def test_c_lists_of_rules_and_of_subnets(tenants, through):
    u1 = tenants.users["u1", through]
    group, network = make(tenants.users["u1", "brest"], "security-groups", name=unique("g"))["id"], tenants.network(u1, unique("n"))
    made = tenants.booted(u1, "metz", networks=[{"uuid": network}], security_groups=[{"name": group}])
    assert {"brest", "metz"} <= set(holders(tenants, f"security-groups/{group}"))
    common = {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}
    rules = [{**common, "port_range_min": port, "port_range_max": port} for port in (80, 443)]
    answer = u1.call("network", "POST", "/v2.0/security-group-rules", {"security_group_rules": rules})
    assert (answer.status, len(answer.body["security_group_rules"])) == (201, 2)
    subnets = [{"network_id": network, "ip_version": 4, "cidr": f"10.92.{number}.0/24"} for number in (1, 2)]
    assert u1.call("network", "POST", "/v2.0/subnets", {"subnets": subnets}).status == 201
    again = [{**common, "port_range_min": 22, "port_range_max": 22}, rules[0]]
    assert u1.call("network", "POST", "/v2.0/security-group-rules", {"security_group_rules": again}).status == 409
    wanted = {each["id"] for each in answer.body["security_group_rules"]}
    for site in holders(tenants, f"security-groups/{group}"):
        there = at(tenants, "u1", site, f"security-groups/{group}").body["security_group"]["security_group_rules"]
        assert wanted <= {each["id"] for each in there}, site
        assert 22 not in {each["port_range_min"] for each in there}, "a list that is refused must leave no rule"
    for site in holders(tenants, f"networks/{network}"):
        assert len(at(tenants, "u1", site, f"networks/{network}").body["network"]["subnets"]) == 3, site
    tenants.delete(u1, made)


@THROUGH
def test_d_the_listed_id_of_the_group_default(tenants, through):
    u1 = tenants.users["u1", through]
    (listed,) = u1.expect("network", "GET", "/v2.0/security-groups?name=default")["security_groups"]
    default, network = listed["id"], tenants.network(u1, unique("n"))
    for name in (default, "default"):
        made = tenants.booted(u1, "metz", networks=[{"uuid": network}], security_groups=[{"name": name}])
        (port,) = u1.expect("network", "GET", f"/v2.0/ports?device_id={made}")["ports"]
        assert port["security_groups"] == [default]
        tenants.delete(u1, made)
    there = make(tenants.users["u1", "metz"], "ports", network_id=network, security_groups=[default])
    assert there["security_groups"] == [default]
    group = make(tenants.users["u1", "metz"], "security-groups", name=unique("g"))["id"]
    rule = make(u1, "security-group-rules", security_group_id=group, direction="ingress", remote_group_id=default)
    assert rule["remote_group_id"] == default


def booted_at_pau(user: Tenant, cloud: Deployment, **more: Any) -> dict[str, Any]:
    api = user.api("brest")
    flavor = next(each["id"] for each in api.expect("compute", "GET", "/flavors")["flavors"] if each["name"] == "m1.nano")
    image = next(each["id"] for each in api.expect("image", "GET", "/v2/images?name=demo")["images"])
    headers = more.pop("headers", {"OpenStack-API-Version": "compute 2.60"})
    body = {"name": "s", "imageRef": image, "flavorRef": flavor, "availability_zone": "pau", **more}
    answer = api.call("compute", "POST", "/servers", {"server": body}, headers=headers)
    assert answer.status == 202, answer
    await_status(api, answer.body["server"]["id"], "ACTIVE")
    return server(api, answer.body["server"]["id"])


@pytest.mark.parametrize("how", ["absent", "auto"])
@pytest.mark.usefixtures("tenants")
def test_e_no_network_is_named(cloud, how):
    user = make_tenant(cloud)
    network = make(user.api("brest"), "networks", name="only")
    make(user.api("brest"), "subnets", network_id=network["id"], ip_version=4, cidr="10.93.0.0/24")
    shown = booted_at_pau(user, cloud, **({"networks": "auto"} if how == "auto" else {"headers": OLD}))
    assert list(shown["addresses"]) == ["only"]


def test_f_a_resource_in_use_at_metz_alone(tenants):
    u1 = tenants.users["u1", "brest"]
    network, group = tenants.network(u1, unique("n")), make(u1, "security-groups", name=unique("g"))["id"]
    made = tenants.booted(u1, "metz", networks=[{"uuid": network}], security_groups=[{"name": group}])
    (subnet,) = u1.expect("network", "GET", f"/v2.0/networks/{network}")["network"]["subnets"]
    paths = (f"networks/{network}", f"subnets/{subnet}", f"security-groups/{group}")
    before = {path: holders(tenants, path) for path in paths}
    for path in paths:
        assert "metz" in refusal(u1.call("network", "DELETE", f"/v2.0/{path}"), 409)
    assert {path: holders(tenants, path) for path in paths} == before
    assert tenants.cloud.atoll("pending") == "no operation waits for another site\n"
    tenants.delete(u1, made)
    for path in (paths[2], paths[0]):
        assert u1.call("network", "DELETE", f"/v2.0/{path}").status == 204
    assert [holders(tenants, path) for path in paths] == [[], [], []]


@THROUGH
def test_g_a_token_that_may_only_create_servers(tenants, through):
    u1 = tenants.users["u1", through]
    network, image = tenants.network(tenants.users["u1", "brest"], unique("n")), tenants.image(tenants.users["u1", "brest"], "own")
    token = tenants.credential("u1", [("compute", "POST", "/v2.1/servers")])
    made = {}
    for zone in SITES:
        answer = tenants.boot(tenants.with_token(through, token), zone, networks=[{"uuid": network}], imageRef=image)
        assert answer.status == 202, (zone, answer)
        made[zone] = answer.body["server"]["id"]
        await_status(u1, made[zone], "ACTIVE")
        assert len(server(u1, made[zone])["addresses"]) == 1
    for site in SITES:
        limited = tenants.with_token(site, token)
        assert [limited.call("compute", "DELETE", f"/servers/{each}").status for each in made.values()] == [401] * 3, site
        assert limited.call("compute", "GET", "/servers").status == 401, site
    for each in made.values():
        tenants.delete(u1, each)


@THROUGH
def test_h_a_condition(tenants, through):
    u1 = tenants.users["u1", through]
    group, network = make(tenants.users["u1", "brest"], "security-groups", name=unique("g"))["id"], tenants.network(u1, unique("n"))
    made = tenants.booted(u1, "metz", networks=[{"uuid": network}], security_groups=[{"name": group}])
    path = f"/v2.0/security-groups/{group}"

    def change(number: int, text: str) -> int:
        body = {"security_group": {"description": text}}
        return u1.call("network", "PUT", path, body, headers={"If-Match": f"revision_number={number}"}).status

    def descriptions() -> set[str]:
        return {at(tenants, "u1", site, path[6:]).body["security_group"]["description"] for site in holders(tenants, path[6:])}

    number = u1.expect("network", "GET", path)["security_group"]["revision_number"]
    assert (change(number, "first"), descriptions()) == (200, {"first"})
    assert (change(number, "second"), descriptions()) == (412, {"first"})
    assert tenants.cloud.atoll("pending") == "no operation waits for another site\n"
    tenants.delete(u1, made)


def test_i_references_to_another_site(tenants):
    u1 = tenants.users["u1", "brest"]
    kernel, ramdisk = tenants.image(u1, "kernel"), tenants.image(u1, "ramdisk")
    image = tenants.image(u1, "parts", kernel_id=kernel, ramdisk_id=ramdisk)
    network = tenants.network(u1, unique("n"))
    port = make(u1, "ports", network_id=network)["id"]
    made = tenants.booted(u1, "metz", imageRef=image, networks=[{"port": port}])
    assert u1.expect("network", "GET", f"/v2.0/ports/{port}")["port"]["device_id"] == made
    assert tenants.users["u1", "metz"].call("image", "GET", f"/v2/images/{kernel}", headers={"X-Scope": "{image: metz}"}).ok
    group = u1.expect("compute", "POST", "/os-server-groups", {"server_group": {"name": "g", "policy": "affinity"}})["server_group"]
    body = {"name": "hinted", "imageRef": tenants.ids["image"], "flavorRef": tenants.ids["flavor"], "availability_zone": "metz"}
    hinted = {"server": body | {"networks": "none"}, "os:scheduler_hints": {"group": group["id"]}}
    assert f"server group {group['id']} is at brest" in refusal(u1.call("compute", "POST", "/servers", hinted), 409)
    outside = make(tenants.admin["brest"], "networks", name=unique("out"), **{"router:external": True})["id"]
    make(tenants.admin["brest"], "subnets", network_id=outside, ip_version=4, cidr="203.0.113.0/24", enable_dhcp=False)
    address = make(u1, "floatingips", floating_network_id=outside)
    body = {"floatingip": {"port_id": port}}
    refused = refusal(u1.call("network", "PUT", f"/v2.0/floatingips/{address['id']}", body), 409)
    assert f"port {port} is at metz and can't be used at brest" in refused
    tenants.delete(u1, made)


def test_j_a_list_that_lacks_a_site(tenants):
    u1, name = tenants.users["u1", "brest"], unique("of-metz")
    make(tenants.users["u1", "metz"], "networks", name=name)
    made = tenants.booted(u1, "metz")
    assert made in {each["id"] for each in u1.expect("compute", "GET", "/servers/detail")["servers"]}
    tenants.cloud.wan().cut("metz")
    until(lambda: u1.call("network", "GET", "/v2.0/networks").headers.get("x-atoll-missing") == "metz", "metz is away", 60)
    answer = u1.call("network", "GET", f"/v2.0/networks?name={name}")
    assert answer.status == 503, "a look-up that finds nothing while a site is away must not say that there is nothing"
    listed = u1.call("compute", "GET", "/servers/detail", headers=NEW)
    assert {each["id"]: each["status"] for each in listed.body["servers"]}[made] == "UNKNOWN"
    for service, path in (("compute", "/servers"), ("network", "/v2.0/networks"), ("image", "/v2/images")):
        assert u1.call(service, "GET", path, headers={"X-Atoll-Strict": "1"}).status == 503, path
    tenants.cloud.wan().heal()

    def found() -> list[str]:
        answer = u1.call("network", "GET", f"/v2.0/networks?name={name}")
        return [each["name"] for each in answer.body["networks"]] if answer.ok else []

    until(lambda: found() == [name], "the network is found again", 60)
    tenants.delete(u1, made)


@THROUGH
@pytest.mark.parametrize("zone", SITES)
def test_k_a_server_called_cafe(tenants, through, zone):
    u1 = tenants.users["u1", through]
    network = tenants.network(tenants.users["u1", "brest"], unique("n"))
    made = tenants.booted(u1, zone, name="café", networks=[{"uuid": network}])
    shown = server(u1, made)
    assert (shown["name"], shown["OS-EXT-SRV-ATTR:hostname"]) == ("café", "cafe")
    tenants.delete(u1, made)
