"""Lists of OpenStack's own clients while a site is cut off: incomplete with a note, strict, and with servers in status UNKNOWN."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from deployment import Deployment, until
from three_sites import Tenant, make_tenant

from atoll.bench import workload

OPENSTACK = Path(sys.executable).with_name("openstack")
NOTICE = "warning: site metz does not answer: its own resources are missing or UNKNOWN (X-Atoll-Missing)"
NEW = "compute 2.69"


def client(tenant: Tenant, *arguments: str | Path, strict: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program inside brest's network with a tenant's account in its environment."""
    url = tenant.cloud.settings("brest").public_url("identity", "/v3")
    account = {
        "OS_AUTH_URL": url.replace("/identity", "/strict/identity") if strict else url,
        "OS_USERNAME": tenant.name,
        "OS_PASSWORD": tenant.password,
        "OS_PROJECT_NAME": tenant.name,
    }
    return tenant.cloud.run("exec", "brest", "--", "env", *(f"{name}={value}" for name, value in account.items()), *arguments)


def openstack(tenant: Tenant, *arguments: str, strict: bool = False) -> subprocess.CompletedProcess[str]:
    return client(tenant, OPENSTACK, *arguments, strict=strict)


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict]:
    assert done.returncode == 0, done.stderr
    return {row["ID"]: row for row in json.loads(done.stdout)}


ENSURE_NETWORK = """
import sys, openstack
connection = openstack.connect()
network = connection.network.find_network(sys.argv[1])
if network is None:
    network = connection.network.create_network(name=sys.argv[1])
    print("changed")
else:
    print("ok")
"""
"""A program that does the same as `state: present` of Ansible's modules."""


@pytest.fixture
def held(victim: Tenant) -> tuple[str, str, str]:
    """Create servers of the victim at brest and at metz; return their ids and the name of a network at metz alone."""
    admin = victim.cloud.api_inside("brest")
    made = workload.prepare(admin)
    patch = json.dumps([{"op": "replace", "path": "/visibility", "value": "public"}]).encode()
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert admin.call("image", "PATCH", f"/v2/images/{made.image}", data=patch, headers=headers).ok
    api = victim.api("brest")
    network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "n"}})["network"]["id"]
    api.expect("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.8.0.0/24"}})
    servers = []
    for site in ("brest", "metz"):
        body = workload.server_body(workload.Tenancy(made.image, made.flavor, network), f"at-{site}")
        body["server"]["availability_zone"] = site
        servers.append(str(api.expect("compute", "POST", "/servers", body)["server"]["id"]))
    for server in servers:
        until(lambda server=server: api.expect("compute", "GET", f"/servers/{server}")["server"]["status"] == "ACTIVE", "it is ACTIVE")
    name = f"of-metz-{uuid4().hex[:8]}"
    victim.api("metz").expect("network", "POST", "/v2.0/networks", {"network": {"name": name}})
    return servers[0], servers[1], name


def cut(cloud: Deployment, victim: Tenant) -> None:
    """Cut metz off, and wait until brest notices."""
    cloud.wan().cut("metz")
    api = victim.api("brest")
    until(lambda: api.call("network", "GET", "/v2.0/networks").headers.get("x-atoll-missing") == "metz", "metz is missing", 30)


def statuses(tenant: Tenant, version: str = NEW, **headers: str) -> dict[str, str] | int:
    """Return the status of each server in a tenant's list at brest, or the HTTP status of a refusal."""
    answer = tenant.api("brest").call("compute", "GET", "/servers/detail", headers={"OpenStack-API-Version": version} | headers)
    return {each["id"]: each["status"] for each in answer.body["servers"]} if answer.ok else answer.status


def test_lists_of_openstacks_client_while_a_site_is_cut_off(cloud, victim, held):
    """Test a few cases with the slow client; the other tests use plain requests."""
    here, there, name = held
    assert statuses(victim) == {here: "ACTIVE", there: "ACTIVE"}
    stranger = make_tenant(cloud)
    cut(cloud, victim)

    new = ("--os-compute-api-version", "2.69")
    listed = openstack(victim, *new, "server", "list", "-f", "json")
    assert {server: (row["Name"], row["Status"]) for server, row in rows(listed).items()} == {
        here: ("at-brest", "ACTIVE"),
        there: ("at-metz", "UNKNOWN"),
    }
    assert listed.stderr.splitlines() == [NOTICE]
    shown = openstack(victim, *new, "server", "show", there, "-f", "json")
    assert (shown.returncode, json.loads(shown.stdout)["status"]) == (0, "UNKNOWN"), shown.stderr
    for done in (openstack(victim, "server", "list", strict=True), openstack(victim, "network", "show", name)):
        assert done.returncode != 0, done
        assert "metz" in done.stderr, done

    assert statuses(victim, "compute 2.68") == {here: "ACTIVE"}
    assert statuses(victim, **{"X-Atoll-Strict": "1"}) == 503
    assert statuses(stranger) == {}
    for tenant, path, status in (
        (stranger, f"/servers/{there}", 503),
        (victim, f"/servers/{there}", 200),
        (victim, "/servers?name=at-metz", 503),
        (victim, "/servers?name=at-brest", 200),
    ):
        assert tenant.api("brest").call("compute", "GET", path, headers={"OpenStack-API-Version": NEW}).status == status
    assert victim.api("brest").call("compute", "DELETE", f"/servers/{there}").status == 503
    everything = cloud.api_inside("brest").expect("compute", "GET", "/servers/detail?all_tenants=1")["servers"]
    assert {each["id"]: each["status"] for each in everything}[there] == "UNKNOWN"

    cloud.wan().heal()
    until(lambda: statuses(victim, **{"X-Atoll-Strict": "1"}) == {here: "ACTIVE", there: "ACTIVE"}, "a strict list is whole again", 60)
    workload.delete(victim.api("brest"), [here, there])
    assert statuses(victim) == {}


def test_a_tool_that_makes_what_it_does_not_find_makes_no_second_one(cloud, victim, held):
    here, there, name = held
    ensure = ("python3", "-c", ENSURE_NETWORK, name)
    assert client(victim, sys.executable, *ensure[1:]).stdout == "ok\n"
    cut(cloud, victim)
    done = client(victim, sys.executable, *ensure[1:])
    assert done.returncode != 0
    assert "site metz does not answer brest and may have it" in done.stderr
    cloud.wan().heal()
    api = victim.api("brest")
    until(lambda: "x-atoll-missing" not in api.call("network", "GET", "/v2.0/networks").headers, "metz is back", 60)
    assert client(victim, sys.executable, *ensure[1:]).stdout == "ok\n"
    assert len(api.expect("network", "GET", f"/v2.0/networks?name={name}")["networks"]) == 1
    workload.delete(api, [here, there])


def test_lists_without_ids_and_their_pages(cloud, victim, held):
    here, there, _name = held
    admin = cloud.api_inside("brest")
    api = victim.api("brest")
    for server in (here, there):
        assert api.expect("compute", "GET", f"/servers/{server}/os-instance-actions")["instanceActions"]
        assert len(api.expect("compute", "GET", f"/servers/{server}/os-interface")["interfaceAttachments"]) == 1
        assert api.expect("compute", "GET", f"/servers/{server}/tags")["tags"] == []
    usage = admin.expect("compute", "GET", f"/os-simple-tenant-usage/{victim.project}")["tenant_usage"]
    assert {each["instance_id"] for each in usage["server_usages"]} == {here, there}
    path, seen = f"/os-simple-tenant-usage/{victim.project}?limit=1", []
    while path:
        page = admin.expect("compute", "GET", path)
        seen += [each["instance_id"] for each in page["tenant_usage"].get("server_usages", ())]
        links = page.get("tenant_usage_links")
        path = "/os-simple" + links[0]["href"].partition("/os-simple")[2] if links else ""
    assert sorted(seen) == sorted([here, there])
    hypervisors = admin.expect("compute", "GET", "/os-hypervisors?limit=2")
    assert (len(hypervisors["hypervisors"]), len(hypervisors["hypervisors_links"])) == (2, 1)
    network = api.expect("network", "GET", "/v2.0/networks?name=n")["networks"][0]["id"]
    (available,) = admin.expect("network", "GET", f"/v2.0/network-ip-availabilities?network_id={network}")["network_ip_availabilities"]
    assert (available["network_id"], available["used_ips"] >= 2) == (network, True)
    workload.delete(api, [here, there])
