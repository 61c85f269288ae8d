"""Requests through brest whose references are at another site than the one that executes them, with three sites and real services.

The tests cover rows of the table of references: resources that are copied, those that move, and those whose use elsewhere is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from deployment import Deployment, until
from holdings import await_status, server
from three_sites import SITES

from atoll.bench.api import Answer, Api
from atoll.identifiers import default_group

PASSWORD = "of-a-test"
BEFORE_NETWORKS_HAD_TO_BE_NAMED = {"OpenStack-API-Version": "compute 2.36"}
BEFORE_FLOATING_IPS_WENT = {"OpenStack-API-Version": "compute 2.40"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


class Tenant:
    """A project with an ordinary member, as each site's gateway and each site's own services show it."""

    def __init__(self, cloud: Deployment, numbers: Iterator[int]) -> None:
        self._cloud = cloud
        self._numbers = numbers
        self.name = f"tenant-{uuid4().hex[:8]}"
        self.admin = cloud.api_inside("brest")
        self.project = self.admin.expect("identity", "POST", "/projects", {"project": {"name": self.name, "domain_id": "default"}})[
            "project"
        ]["id"]
        user = {"name": self.name, "domain_id": "default", "password": PASSWORD}
        identifier = self.admin.expect("identity", "POST", "/users", {"user": user})["user"]["id"]
        role = next(each["id"] for each in self.admin.expect("identity", "GET", "/roles")["roles"] if each["name"] == "member")
        self.admin.expect("identity", "PUT", f"/projects/{self.project}/users/{identifier}/roles/{role}")
        self._apis: dict[str, Api] = {}
        self.at("brest")
        flavors = self.brest.expect("compute", "GET", "/flavors")["flavors"]
        self.flavor = next(each["id"] for each in flavors if each["name"] == "m1.tiny")

    def at(self, site: str) -> Api:
        if site not in self._apis:
            self._apis[site] = until(lambda: self._sign_in(site), f"{self.name} signs in at {site}", 30)
        return self._apis[site]

    def _sign_in(self, site: str) -> Api | None:
        try:
            return self._cloud.api_inside(site, self.name, PASSWORD, self.name)
        except Exception:
            return None

    @property
    def brest(self) -> Api:
        return self.at("brest")

    def own(self, site: str, service: str, path: str) -> Answer:
        """Return the answer of a site's own service, past the gateways."""
        endpoints = dict(self.at(site)._endpoints)
        try:
            self.at(site)._endpoints[service] = self._cloud.settings(site).url(service)
            return self.at(site).call(service, "GET", path)
        finally:
            self.at(site)._endpoints = endpoints

    def has(self, site: str, service: str, path: str) -> bool:
        return self.own(site, service, path).status == 200

    def image(self, site: str = "brest", **more: str) -> str:
        body = {"name": "image", "disk_format": "raw", "container_format": "bare", **more}
        made = str(self.at(site).expect("image", "POST", "/v2/images", body)["id"])
        self.at(site).expect("image", "PUT", f"/v2/images/{made}/file", data=b"atoll" * 1000)
        return made

    def network(self, site: str = "brest", **more: Any) -> str:
        made = self.make(site, "networks", "network", name="net", **more)["id"]
        self.make(site, "subnets", "subnet", network_id=made, cidr=f"10.{next(self._numbers)}.0.0/24", ip_version=4)
        return str(made)

    def make(self, site: str, collection: str, item: str, **fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.at(site).expect("network", "POST", f"/v2.0/{collection}", {item: fields})[item]
        return found

    def boot(self, zone: str, *, headers: dict[str, str] | None = None, hints: dict[str, Any] | None = None, **fields: Any) -> Answer:
        body: dict[str, Any] = {"server": {"name": "s", "flavorRef": self.flavor, "availability_zone": zone, **fields}}
        if hints:
            body["os:scheduler_hints"] = hints
        return self.brest.call("compute", "POST", "/servers", body, headers=headers)

    def running(self, zone: str, **fields: Any) -> dict[str, Any]:
        """Boot a server at a site and wait until it is ACTIVE."""
        answer = self.boot(zone, **fields)
        assert answer.status == 202, answer
        made = answer.body["server"]["id"]
        await_status(self.brest, made, "ACTIVE")
        shown = server(self.brest, made)
        assert shown["OS-EXT-AZ:availability_zone"] == zone
        return shown

    def port_of(self, machine: dict[str, Any]) -> dict[str, Any]:
        (port,) = self.brest.expect("network", "GET", f"/v2.0/ports?device_id={machine['id']}")["ports"]
        return dict(port)


def refusal(answer: Answer, status: int = 409) -> str:
    assert answer.status == status, answer
    return str(next(iter(answer.body.values()))["message"])


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count(1)


@pytest.fixture
def tenant(cloud, numbers) -> Tenant:
    return Tenant(cloud, numbers)


@pytest.fixture(scope="module")
def outside(built) -> str:
    """Create an external network at brest."""
    admin = built.api_inside("brest")
    body = {"name": "outside", "router:external": True, "provider:network_type": "flat", "provider:physical_network": "outside"}
    made = str(admin.expect("network", "POST", "/v2.0/networks", {"network": body})["network"]["id"])
    subnet = {"network_id": made, "cidr": "203.0.113.0/24", "ip_version": 4, "enable_dhcp": False}
    admin.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    return made


# No network is named


@pytest.mark.parametrize("how", ["auto", "absent"])
def test_only_network_of_a_project_comes_along_unnamed(tenant, how):
    network, image = tenant.network(), tenant.image()
    more = {"networks": "auto"} if how == "auto" else {"headers": BEFORE_NETWORKS_HAD_TO_BE_NAMED}
    machine = tenant.running("pau", imageRef=image, **more)
    assert tenant.port_of(machine)["network_id"] == network
    assert [len(addresses) for addresses in machine["addresses"].values()] == [1]


def test_several_networks_are_ambiguous_wherever_they_are(tenant):
    tenant.network("brest")
    tenant.network("metz")
    for site in SITES:
        answer = tenant.boot(site, imageRef=tenant.image(), networks="auto")
        assert refusal(answer) == "Multiple possible networks found, use a Network ID to be more specific."


def test_project_without_any_network_is_answered_as_by_one_site(tenant):
    answer = tenant.boot("metz", imageRef=tenant.image(), networks="auto")
    assert "Unable to automatically allocate a network" in refusal(answer, 400)


# Images with parts


def test_kernel_and_ramdisk_come_with_their_image(tenant):
    kernel, ramdisk = tenant.image("pau"), tenant.image("brest")
    image = tenant.image(kernel_id=kernel, ramdisk_id=ramdisk)
    tenant.running("metz", imageRef=image, networks="none")
    assert all(tenant.has("metz", "image", f"/v2/images/{each}") for each in (kernel, ramdisk, image))


def test_kernel_comes_to_the_site_of_an_image_that_is_changed(tenant):
    kernel, image = tenant.image("metz"), tenant.image("brest")
    change = json.dumps([{"op": "add", "path": "/kernel_id", "value": kernel}]).encode()
    assert tenant.brest.call("image", "PATCH", f"/v2/images/{image}", data=change, headers=PATCH).status == 200
    assert tenant.has("brest", "image", f"/v2/images/{kernel}")


# Ports


def test_port_that_was_made_first_moves_to_its_server(tenant):
    network = tenant.network()
    port = tenant.make("brest", "ports", "port", network_id=network, name="first", description="kept")
    machine = tenant.running("metz", imageRef=tenant.image(), networks=[{"port": port["id"]}])
    moved = tenant.port_of(machine)
    same = ("id", "name", "description", "mac_address", "fixed_ips", "security_groups", "network_id")
    assert {name: moved[name] for name in same} == {name: port[name] for name in same}
    assert [tenant.has(site, "network", f"/v2.0/ports/{port['id']}") for site in SITES] == [False, True, False]
    assert tenant.brest.expect("network", "GET", f"/v2.0/ports/{port['id']}")["port"]["device_id"] == machine["id"]
    answer = tenant.boot("brest", imageRef=tenant.image(), networks=[{"port": port["id"]}])
    assert refusal(answer) == (
        f"port {port['id']} is at metz, and in use there by compute:metz {machine['id']}: it can't be moved to brest"
    )


def test_port_moves_to_a_server_that_runs(tenant):
    network = tenant.network()
    machine = tenant.running("pau", imageRef=tenant.image(), networks=[{"uuid": network}])
    port = tenant.make("metz", "ports", "port", network_id=network)
    body = {"interfaceAttachment": {"port_id": port["id"]}}
    assert tenant.brest.call("compute", "POST", f"/servers/{machine['id']}/os-interface", body).status == 200
    assert [tenant.has(site, "network", f"/v2.0/ports/{port['id']}") for site in SITES] == [False, False, True]


def test_port_with_a_floating_ip_stays(tenant, outside):
    network = tenant.network()
    (subnet,) = tenant.brest.expect("network", "GET", f"/v2.0/subnets?network_id={network}")["subnets"]
    router = tenant.make("brest", "routers", "router", external_gateway_info={"network_id": outside})["id"]
    tenant.brest.expect("network", "PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet["id"]})
    port = tenant.make("brest", "ports", "port", network_id=network)["id"]
    tenant.make("brest", "floatingips", "floatingip", floating_network_id=outside, port_id=port)
    answer = tenant.boot("metz", imageRef=tenant.image(), networks=[{"port": port}])
    assert refusal(answer) == f"port {port} is at brest, and a floating IP refers to it: it can't be moved to metz"
    assert tenant.has("brest", "network", f"/v2.0/ports/{port}")


# Resources that stay at their site


def test_floating_ip_of_here_for_a_server_there(tenant, outside):
    machine = tenant.running("metz", imageRef=tenant.image(), networks=[{"uuid": tenant.network()}])
    port = tenant.port_of(machine)["id"]
    address = tenant.make("brest", "floatingips", "floatingip", floating_network_id=outside)
    answer = tenant.brest.call("network", "PUT", f"/v2.0/floatingips/{address['id']}", {"floatingip": {"port_id": port}})
    assert refusal(answer) == (
        f"port {port} is at metz and can't be used at brest: a floating IP leads to ports of its own site: create one at metz"
    )
    action = {"addFloatingIp": {"address": address["floating_ip_address"]}}
    answer = tenant.brest.call("compute", "POST", f"/servers/{machine['id']}/action", action, headers=BEFORE_FLOATING_IPS_WENT)
    assert refusal(answer) == (
        f"floating IP {address['floating_ip_address']} is at brest and can't be used at metz: "
        "a floating IP leads to servers of its own site: create one at metz"
    )


def test_external_network_stays_at_its_site(tenant, outside):
    """A resource that refers to the network is created at its site through any gateway; one at another site cannot use it."""
    metz, network = tenant.at("metz"), tenant.network()
    (subnet,) = tenant.brest.expect("network", "GET", f"/v2.0/subnets?network_id={network}")["subnets"]
    router = tenant.make("metz", "routers", "router", external_gateway_info={"network_id": outside})["id"]
    assert tenant.has("brest", "network", f"/v2.0/routers/{router}")
    metz.expect("network", "PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet["id"]})
    port = tenant.make("brest", "ports", "port", network_id=network)["id"]
    address = tenant.make("metz", "floatingips", "floatingip", floating_network_id=outside)["id"]
    assert tenant.has("brest", "network", f"/v2.0/floatingips/{address}")
    for leads, status in ((port, "ACTIVE"), (None, "DOWN")):
        metz.expect("network", "PUT", f"/v2.0/floatingips/{address}", {"floatingip": {"port_id": leads}})
        assert metz.expect("network", "GET", f"/v2.0/floatingips/{address}")["floatingip"]["status"] == status
    own = tenant.make("metz", "routers", "router")["id"]
    gateway = {"router": {"external_gateway_info": {"network_id": outside}}}
    hint = "it leads out of its own site: use an external network of metz, or create what needs it at brest"
    refused = f"external network {outside} is at brest and can't be used at metz: {hint}"
    assert refusal(tenant.brest.call("network", "PUT", f"/v2.0/routers/{own}", gateway)) == refused
    assert refusal(tenant.boot("metz", imageRef=tenant.image(), networks=[{"uuid": outside}])) == refused
    assert not tenant.has("metz", "network", f"/v2.0/networks/{outside}")


def test_scheduler_hints(tenant):
    group = {"server_group": {"name": "g", "policy": "anti-affinity"}}
    identifier = tenant.brest.expect("compute", "POST", "/os-server-groups", group)["server_group"]["id"]
    image = tenant.image()
    assert f"server group {identifier} is at brest and can't be used at metz" in refusal(
        tenant.boot("metz", imageRef=image, networks="none", hints={"group": identifier})
    )
    other = tenant.running("brest", imageRef=image, networks="none", hints={"group": identifier})["id"]
    assert f"server {other} is at brest and can't be used at pau: two sites share no host" in refusal(
        tenant.boot("pau", imageRef=image, networks="none", hints={"same_host": [other]})
    )
    tenant.running("pau", imageRef=image, networks="none", hints={"different_host": [other]})


def test_hosts_and_zones(tenant):
    machine = tenant.running("metz", imageRef=tenant.image(), networks="none")["id"]
    action = {"migrate": {"host": "brest"}}
    answer = tenant.admin.call("compute", "POST", f"/servers/{machine}/action", action)
    assert refusal(answer) == "host brest is at brest and can't be used at metz: a server stays at its site"


def test_quality_of_service(tenant):
    policy = tenant.admin.expect("network", "POST", "/v2.0/qos/policies", {"policy": {"name": "q", "shared": True}})["policy"]["id"]
    body = {"name": "limited", "qos_policy_id": policy, "project_id": tenant.project}
    network = tenant.admin.expect("network", "POST", "/v2.0/networks", {"network": body})["network"]["id"]
    image = tenant.image()
    assert refusal(tenant.boot("metz", imageRef=image, networks=[{"uuid": network}])) == (
        f"network {network} of brest can't be brought to metz, which lacks QoS policy {policy} that it names"
    )
    free = tenant.network()
    tenant.running("metz", imageRef=image, networks=[{"uuid": free}])
    change = {"network": {"qos_policy_id": policy}}
    assert refusal(tenant.brest.call("network", "PUT", f"/v2.0/networks/{free}", change)) == (
        f"QoS policy {policy} is at brest and not at metz, which has a copy of the resource to change"
    )
    assert [tenant.own(site, "network", f"/v2.0/networks/{free}").body["network"]["qos_policy_id"] for site in SITES[:2]] == [None, None]


def test_rule_with_an_address_group(tenant):
    addresses = tenant.make("brest", "address-groups", "address_group", name="a", addresses=["10.0.0.0/8"])["id"]
    group = tenant.make("brest", "security-groups", "security_group", name="narrow")["id"]
    rule = {"security_group_id": group, "direction": "ingress", "remote_address_group_id": addresses}
    identifier = tenant.make("brest", "security-group-rules", "security_group_rule", **rule)["id"]
    answer = tenant.boot("metz", imageRef=tenant.image(), networks=[{"uuid": tenant.network()}], security_groups=[{"name": group}])
    assert refusal(answer) == (
        f"rule of a security group {identifier} of brest can't be brought to metz, which lacks address group {addresses} that it names"
    )
    assert not tenant.has("metz", "network", f"/v2.0/security-groups/{group}")


# Requests that go to the site of a referenced resource


def test_share_of_what_is_elsewhere(tenant):
    network = tenant.network("metz")
    body = {"object_type": "network", "object_id": network, "action": "access_as_shared", "target_tenant": tenant.admin.project}
    policy = tenant.make("brest", "rbac-policies", "rbac_policy", **body)["id"]
    assert [tenant.has(site, "network", f"/v2.0/rbac-policies/{policy}") for site in SITES] == [False, True, False]


# The group `default`


def test_group_default_is_one_group(tenant):
    listed = [tenant.at(site).expect("network", "GET", "/v2.0/security-groups?name=default")["security_groups"] for site in SITES]
    assert [[each["id"] for each in groups] for groups in listed] == [[default_group(tenant.project)]] * 3
    default, network, image = listed[0][0]["id"], tenant.network(), tenant.image()
    for name in (default, "default"):
        machine = tenant.running("metz", imageRef=image, networks=[{"uuid": network}], security_groups=[{"name": name}])
        assert tenant.port_of(machine)["security_groups"] == [default]
    assert tenant.make("metz", "ports", "port", network_id=network, security_groups=[default])["security_groups"] == [default]
    web = tenant.make("metz", "security-groups", "security_group", name="web")["id"]
    tenant.make("brest", "security-group-rules", "security_group_rule", security_group_id=web, direction="ingress", remote_group_id=default)
    allowed = {"security_group_id": default, "direction": "ingress", "protocol": "udp", "remote_group_id": web}
    rule = tenant.make("brest", "security-group-rules", "security_group_rule", **allowed)["id"]
    assert all(tenant.has(site, "network", f"/v2.0/security-group-rules/{rule}") for site in SITES)
    first = next(each["id"] for each in listed[0][0]["security_group_rules"] if each["direction"] == "egress")
    tenant.brest.expect("network", "DELETE", f"/v2.0/security-group-rules/{first}")
    assert not any(tenant.has(site, "network", f"/v2.0/security-group-rules/{first}") for site in SITES)


def test_group_default_that_a_site_makes_later_has_the_rules_of_the_others(tenant):
    default = default_group(tenant.project)
    assert tenant.own("brest", "network", "/v2.0/security-groups").status == 200  # Neutron creates the group now
    allowed = {"security_group_id": default, "direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    rule = tenant.make("brest", "security-group-rules", "security_group_rule", **allowed)["id"]
    assert not tenant.has("pau", "network", f"/v2.0/security-groups/{default}")
    machine = tenant.running("pau", imageRef=tenant.image(), networks=[{"uuid": tenant.network()}])
    assert tenant.port_of(machine)["security_groups"] == [default]
    assert tenant.has("pau", "network", f"/v2.0/security-group-rules/{rule}")


# A site that is away


def test_a_resource_that_may_be_at_an_unreachable_site_is_not_404(cloud, tenant):
    network, image = tenant.network("pau"), tenant.image("brest")
    cloud.wan().cut("pau")
    try:
        for networks in ([{"uuid": network}], "auto"):
            answer = tenant.boot("metz", imageRef=image, networks=networks)
            assert (answer.status, answer.headers["x-atoll-missing"]) == (503, "pau"), answer
    finally:
        cloud.wan().heal()
    until(lambda: tenant.boot("metz", imageRef=image, networks=[{"uuid": network}]).status == 202, "the network comes along", 60)
