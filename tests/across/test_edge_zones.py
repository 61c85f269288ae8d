"""Edge discovery at three sites: a device and an application's server ask each gateway, with tokens of Keystone."""

import json
import sys
from pathlib import Path

import pytest
from deployment import until
from three_sites import DEVICE_ROLE, SITES, Tenant

from atoll.bench.api import Answer, Api
from atoll.cloudlet.find import PATH
from atoll.identifiers import edge_zone

ATOLL = Path(sys.executable).with_name("atoll")


def ask(api: Api, address: str = "", token: str = "") -> Answer:
    identifier = {"ipv6Address": address} if ":" in address else {"ipv4Address": {"publicAddress": address, "publicPort": 5000}}
    api._endpoints["edge"] = api.endpoint("identity").partition("/identity")[0]
    headers = {"X-Auth-Token": token, "Authorization": f"Bearer {token}"} if token else {}
    return api.call("edge", "POST", PATH, {"device": identifier} if address else {}, headers=headers)


def zone(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    assert answer.body["edgeCloudZoneId"] == edge_zone("atoll", answer.body["edgeCloudZoneName"])
    return str(answer.body["edgeCloudZoneName"])


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


@pytest.fixture
def application(victim: Tenant) -> Tenant:
    """Give a tenant the role that asks about any device."""
    admin = victim.cloud.api_inside("brest")
    admin.call("identity", "POST", "/roles", {"role": {"name": DEVICE_ROLE}})
    (role,) = admin.expect("identity", "GET", f"/roles?name={DEVICE_ROLE}")["roles"]
    assert admin.call("identity", "PUT", f"/projects/{victim.project}/users/{victim.user}/roles/{role['id']}").status == 204
    path = f"/role_assignments?user.id={victim.user}&role.id={role['id']}"
    for site in SITES:
        api = victim.cloud.api_inside(site)
        until(lambda api=api: api.call("identity", "GET", path).body.get("role_assignments"), "the role is known", 30)
    return victim


def test_each_gateway_finds_the_zone_of_a_device(application: Tenant, attacker: Tenant) -> None:
    cloud = application.cloud
    admin = cloud.api_inside("metz")
    services = admin.expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
    (compute,) = (each for each in services if each["host"] == "metz")
    servers = {site: application.api(site) for site in SITES}
    admin.expect("compute", "PUT", f"/os-services/{compute['id']}", {"status": "disabled"})
    try:
        assert {zone(ask(api, "10.200.2.7")) for api in servers.values()} <= {"brest", "pau"}, "a site without a host takes no server"
    finally:
        admin.expect("compute", "PUT", f"/os-services/{compute['id']}", {"status": "enabled"})
    for site, api in servers.items():
        assert zone(ask(api, "10.200.3.7")) == zone(ask(api, "2001:db8::7")) == "pau"
        assert code(ask(api, "192.0.2.7")) == (404, "IDENTIFIER_NOT_FOUND")
        assert code(ask(api)) == (422, "MISSING_IDENTIFIER")
        assert code(ask(api, token="junk")) == (401, "UNAUTHENTICATED")
        assert code(ask(attacker.api(site), "10.200.3.7")) == (422, "UNNECESSARY_IDENTIFIER")
    for site, api in servers.items():
        until(lambda api=api: zone(ask(api, "10.200.2.7")) == "metz", f"{site} knows that metz takes servers again", 30)
        found = ask(attacker.api(site))
        assert (zone(found), found.headers["x-atoll-zone-url"]) == (site, cloud.settings(site).public_url("identity", "/v3"))
    account = {
        "OS_AUTH_URL": cloud.settings("brest").public_url("identity", "/v3"),
        "OS_USERNAME": attacker.name,
        "OS_PASSWORD": attacker.password,
        "OS_PROJECT_NAME": attacker.name,
    }
    command = ("env", *(f"{name}={value}" for name, value in account.items()), ATOLL, "cloudlet", "find", "--json")
    assert json.loads(cloud.atoll("exec", "brest", "--", *command))["name"] == "brest"
