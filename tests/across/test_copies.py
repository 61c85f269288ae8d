"""Changes of resources with copies at several sites of a real cloud: complete or refused."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from deployment import until
from three_sites import SITES, Tenant

from atoll.bench.api import Answer, Api


def named(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


def made(api: Api, collection: str, item: str, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = api.expect("network", "POST", f"/v2.0/{collection}", {item: fields})[item]
    return answer


@pytest.fixture
def shared(victim: Tenant) -> Callable[[], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Return a function that creates a network and a security group at brest, and ports at brest and metz, so that both have copies."""

    def make() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        api = victim.api("brest")
        network = made(api, "networks", "network", name=named("n"))
        made(api, "subnets", "subnet", network_id=network["id"], ip_version=4, cidr="10.9.0.0/24")
        group = made(api, "security-groups", "security_group", name=named("g"))
        port = made(victim.api("metz"), "ports", "port", network_id=network["id"], security_groups=[group["id"]])
        assert local(victim, "metz", f"networks/{network['id']}").ok
        return network, group, port

    return make


def local(tenant: Tenant, site: str, path: str) -> Answer:
    """Return a site's own answer, without the other sites."""
    return tenant.api(site).call("network", "GET", f"/v2.0/{path}", headers={"X-Scope": f"{{network: {site}}}"})


def holders(tenant: Tenant, path: str) -> set[str]:
    return {site for site in SITES if local(tenant, site, path).ok}


def test_a_resource_in_use_at_another_site_is_deleted_nowhere(victim: Tenant, shared) -> None:
    network, group, port = shared()
    subnet = network_of(victim, network["id"])["subnets"][0]
    for through in ("brest", "pau"):
        api = victim.api(through)
        for path, error in (
            (f"networks/{network['id']}", "NetworkInUse"),
            (f"subnets/{subnet}", "SubnetInUse"),
            (f"security-groups/{group['id']}", "SecurityGroupInUse"),
        ):
            before = holders(victim, path)
            answer = api.call("network", "DELETE", f"/v2.0/{path}")
            assert (answer.status, answer.body["NeutronError"]["type"]) == (409, error), path
            assert "metz" in answer.body["NeutronError"]["message"]
            assert holders(victim, path) == before >= {"brest", "metz"}
    victim.api("brest").expect("network", "DELETE", f"/v2.0/ports/{port['id']}")
    for path in (f"networks/{network['id']}", f"security-groups/{group['id']}"):
        assert victim.api("pau").call("network", "DELETE", f"/v2.0/{path}").status == 204
        assert holders(victim, path) == set()


def network_of(tenant: Tenant, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = tenant.api("brest").expect("network", "GET", f"/v2.0/networks/{identifier}")["network"]
    return found


@pytest.mark.parametrize("through", ["brest", "metz", "pau"])
def test_a_condition_holds_at_all_sites_or_at_none(victim: Tenant, shared, through: str) -> None:
    _network, group, _port = shared()
    path = f"/v2.0/security-groups/{group['id']}"
    # Make the revision numbers of the copies differ.
    local_change(victim, "metz", path, {"security_group": {"description": "at metz"}})
    api = victim.api(through)
    for look in (
        lambda: api.expect("network", "GET", path)["security_group"],
        lambda: api.expect("network", "GET", f"/v2.0/security-groups?{urlencode({'id': group['id']})}")["security_groups"][0],
    ):
        number, description = look()["revision_number"], named("d")
        change = {"security_group": {"description": description}}
        answer = api.call("network", "PUT", path, change, headers={"If-Match": f"revision_number={number}"})
        assert answer.status == 200, answer.body
        assert descriptions(victim, group["id"]) == {description}
        stale = api.call(
            "network", "PUT", path, {"security_group": {"description": "lost"}}, headers={"If-Match": f"revision_number={number}"}
        )
        assert stale.status == 412
        assert descriptions(victim, group["id"]) == {description}


def local_change(tenant: Tenant, site: str, path: str, body: dict[str, Any]) -> None:
    """Change one copy past the gateway, as the operator of its site could."""
    api = tenant.api(site)
    api._endpoints["network"] = f"http://127.0.0.1:{tenant.cloud.settings(site).ports['network']}"
    assert api.call("network", "PUT", path, body).ok


def descriptions(tenant: Tenant, group: str) -> set[str]:
    found = [local(tenant, site, f"security-groups/{group}") for site in ("brest", "metz")]
    return {answer.body["security_group"]["description"] for answer in found}


def test_lists_of_rules_and_subnets_are_made_at_all_sites_or_at_none(victim: Tenant, shared) -> None:
    network, group, _port = shared()
    api = victim.api("pau")
    common = {"security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}
    rules = [{**common, "port_range_min": port, "port_range_max": port} for port in (80, 443, 1)]
    answer = api.call("network", "POST", "/v2.0/security-group-rules", {"security_group_rules": rules[:2]})
    assert answer.status == 201, answer.body
    wanted = {rule["id"] for rule in answer.body["security_group_rules"]}
    assert len(wanted) == 2
    for site in ("brest", "metz"):
        there = local(victim, site, f"security-groups/{group['id']}").body["security_group"]["security_group_rules"]
        assert wanted <= {rule["id"] for rule in there}, site
    again = api.call("network", "POST", "/v2.0/security-group-rules", {"security_group_rules": rules[:0:-1]})
    assert again.status == 409, "one of the rules exists already, so none may be created"
    for site in ("brest", "metz"):
        there = local(victim, site, f"security-groups/{group['id']}").body["security_group"]["security_group_rules"]
        assert 1 not in {rule["port_range_min"] for rule in there}, site
    subnets = [{"network_id": network["id"], "ip_version": 4, "cidr": f"10.9.{number}.0/24"} for number in (1, 2)]
    answer = api.call("network", "POST", "/v2.0/subnets", {"subnets": subnets})
    assert answer.status == 201, answer.body
    wanted = {subnet["id"] for subnet in answer.body["subnets"]}
    for site in ("brest", "metz"):
        assert wanted <= set(local(victim, site, f"networks/{network['id']}").body["network"]["subnets"])


def test_a_change_that_a_site_refuses_when_it_is_back_is_told(victim: Tenant, shared) -> None:
    network, _group, _port = shared()
    cloud = victim.cloud
    cloud.wan().cut("metz")
    api = victim.api("brest")
    path = f"/v2.0/networks/{network['id']}"
    assert until(lambda: api.call("network", "DELETE", path).status in {204, 404}, "deleted at brest", 30)
    cloud.wan().heal()
    until(lambda: network["id"] in cloud.atoll("conflicts", "brest", "--json"), "the operator is told", 60)
    assert holders(victim, f"networks/{network['id']}") >= {"metz"}
    assert network["id"] not in cloud.atoll("pending", "--json")
