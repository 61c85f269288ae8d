"""The routes of paths, the parsing of targets, and the parsing of creation requests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from atoll.gateway.lists import aggregates
from atoll.gateway.request.call import Call
from atoll.gateway.request.headers import end_to_end, microversion, of_client, request_id, valid_host
from atoll.gateway.request.target import SERVICES, Refused, parse
from atoll.gateway.resolve.placing import MOST_PARENTS, Unplaceable, creation
from atoll.gateway.resolve.routes import COMPUTE, Operation, match, network_resource

UUID = "7f1c8e1a-3f0f-4a53-9a3a-0a5b1c2d3e4f"
PROJECT = "0ce016f0d23f5d5b886f33ec8406d2ea"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("GET identity /v3/users", "LOCAL"),
        ("GET compute /v2.1", "LOCAL"),
        ("GET compute /", "LOCAL"),
        ("GET compute /v2.1/servers", "LIST servers brief"),
        ("GET compute /v2.1/servers/", "LIST servers brief"),
        ("GET compute /v2.1/servers/detail", "LIST servers detail"),
        (f"GET compute /v2.1/{PROJECT}/servers/detail", "LIST servers detail"),
        (f"GET compute /v2.1/servers/{UUID}", f"ITEM servers {UUID}"),
        (f"GET compute /v2.1/{PROJECT}/servers/{UUID}", f"ITEM servers {UUID}"),
        (f"POST compute /v2.1/servers/{UUID}/action", f"ITEM servers {UUID} child"),
        ("POST compute /v2.1/servers", "CREATE servers"),
        ("GET compute /v2.1/flavors", "LIST flavors brief"),
        ("DELETE compute /v2.1/flavors/1", "EVERYWHERE flavors 1"),
        ("GET compute /v2.1/flavors/1/os-extra_specs", "ITEM flavors 1 child"),
        ("POST compute /v2.1/flavors/1/os-extra_specs", "EVERYWHERE flavors 1 child"),
        ("GET compute /v2.1/os-keypairs/key", "ITEM keypairs key"),
        ("GET compute /v2.1/os-hypervisors/detail", "LIST hypervisors detail"),
        ("GET compute /v2.1/os-hypervisors/statistics", "MERGE hypervisor_statistics"),
        ("GET compute /v2.1/os-availability-zone", "MERGE os-availability-zone"),
        ("GET compute /v2.1/limits", "MERGE limits"),
        ("GET compute /v2.1/os-simple-tenant-usage/x", "MERGE os-simple-tenant-usage"),
        ("GET compute /v2.1/os-quota-sets/x", "LOCAL"),
        ("PUT compute /v2.1/os-quota-sets/x", "EVERYWHERE"),
        ("GET compute /v2.1/os-aggregates", "LOCAL"),
        ("GET network /v2.0/networks", "LIST networks detail"),
        ("GET network /v2.0/networks.json", "LIST networks detail"),
        ("POST network /v2.0/networks", "CREATE networks"),
        (f"PUT network /v2.0/networks/{UUID}", f"EVERYWHERE networks {UUID}"),
        (f"PUT network /v2.0/routers/{UUID}/add_router_interface", f"ITEM routers {UUID} child"),
        (f"DELETE network /v2.0/ports/{UUID}", f"ITEM ports {UUID}"),
        ("GET network /v2.0/qos/policies", "LIST policies detail"),
        ("GET network /v2.0/fwaas/firewall_policies", "LIST firewall_policies detail"),
        (f"DELETE network /v2.0/taas/tap_mirrors/{UUID}", f"ITEM tap_mirrors {UUID}"),
        ("GET network /v2.0/extensions", "LOCAL"),
        ("GET network /v2.0/quotas/x", "LOCAL"),
        ("PUT network /v2.0/quotas/x", "EVERYWHERE"),
        ("GET image /v2/images", "LIST images detail"),
        ("GET image /v2/schemas/images", "LOCAL"),
        (f"PUT image /v2/images/{UUID}/file", f"ITEM images {UUID} child"),
        (f"PATCH image /v2/images/{UUID}", f"EVERYWHERE images {UUID}"),
        (f"POST image /v2/images/{UUID}/members", f"EVERYWHERE images {UUID} child"),
        ("GET placement /resource_providers", "LOCAL"),
        ("GET load-balancer /v2/lbaas/loadbalancers", "LOCAL"),
    ],
)
def test_routes(request_: str, expected: str) -> None:
    route = match(*request_.split())
    words = [route.operation.name, route.name or (route.resource.key if route.resource else ""), route.id]
    if route.operation is Operation.LIST:
        words.append("detail" if route.detail else "brief")
    assert " ".join([*filter(None, words), *(["child"] if route.child else [])]) == expected


@pytest.mark.parametrize(
    ("name", "item"),
    [("networks", "network"), ("security-group-rules", "security_group_rule"), ("policies", "policy"), ("floatingips", "floatingip")],
)
def test_names_of_neutron(name: str, item: str) -> None:
    assert (network_resource(name).item, network_resource(name).key) == (item, name.replace("-", "_"))


def test_the_table_knows_only_what_nova_has() -> None:
    """Compare the collections in the table with Nova's routes."""
    import importlib.util

    spec = importlib.util.find_spec("nova")
    assert spec is not None
    text = (Path(spec.submodule_search_locations[0]) / "api/openstack/compute/routes.py").read_text()
    there = set(re.findall(r"\('/([a-z-]+)(?:/|')", text))
    assert set(COMPUTE) <= there


@given(
    st.text(st.characters(codec="latin-1"), max_size=60),
    st.sampled_from(["", "/compute/", "/scope/x/compute/", "/strict/compute/", "/strict/scope/x/"]),
)
def test_only_plain_targets_pass(text: str, prefix: str) -> None:
    raw = prefix + text
    try:
        target = parse(raw)
    except Refused:
        return
    assert target.service in {*SERVICES, ""}
    path = raw.partition("?")[0]
    assert not re.search(r"//|\\|[\x00-\x20\x7f-\xff]", raw)
    assert not any(part in {".", ".."} for part in path.split("/"))
    assert not re.search(r"%(2f|2e|5c|00)", target.path, re.IGNORECASE)
    assert target.prefix + target.path in {path, path + "/"}  # nothing is rewritten


@given(
    st.lists(st.tuples(st.text("abcXY-", min_size=1, max_size=8), st.text("abc,", max_size=5))),
    st.lists(st.sampled_from(["x-listed", "keep-alive", "close"])),
)
def test_headers_of_one_connection_stay_there(pairs: list[tuple[str, str]], listed: list[str]) -> None:
    given_ = CIMultiDict([*pairs, ("X-Listed", "1"), ("TE", "trailers"), ("Transfer-Encoding", "chunked"), ("X-Atoll-Hop", "1")])
    given_["Connection"] = ", ".join(listed)
    names = [name.lower() for name, _ in given_.items()]
    if len(set(names)) < len(names):
        with pytest.raises(Refused, match="more than one"):
            of_client(given_)
        return
    kept = of_client(given_)
    assert not {"te", "transfer-encoding", "connection", "x-atoll-hop", "host"} & {name.lower() for name in kept}
    assert ("X-Listed" in kept) == ("x-listed" not in listed)
    assert kept.getall("abc", []) == given_.getall("abc", [])
    assert "X-Atoll-Hop" in end_to_end(given_.items(), given_["Connection"])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/strict/compute/v2.1/servers?a=b", ("/strict/compute", "compute", "/v2.1/servers", "a=b", None, True)),
        ("/strict/scope/compute:x/image", ("/strict/scope/compute:x/image", "image", "/", "", "compute:x", True)),
        ("/strict/", ("/strict", "", "/", "", None, True)),
        ("/scope/strict/compute", ("/scope/strict/compute", "compute", "/", "", "strict", False)),
    ],
)
def test_targets_that_are_strict(raw: str, expected: tuple[object, ...]) -> None:
    found = parse(raw)
    assert (found.prefix, found.service, found.path, found.query, found.scope, found.strict) == expected


@pytest.mark.parametrize("raw", ["/strict", "/strictly/compute", "/strict/strict/compute", "/scope/x/strict/compute", "/strict/console/x"])
def test_targets_that_are_not_strict_ones(raw: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(raw)
    assert refused.value.status == 404


def test_small_things() -> None:
    assert [valid_host(host) for host in ("a.b:80", "[::1]:80", "10.0.0.1", "a/b", "a b", "a@b", "")] == [True, True, True, *[False] * 4]
    good = f"req-{UUID}"
    assert request_id(good) == good
    assert request_id("req-x\r\nA: b") != "req-x\r\nA: b"


def call(service: str, path: str, body: bytes) -> Call:
    return Call("POST", service, path, "", CIMultiDict({"Content-Length": str(len(body))}), body, "req-1")


@pytest.mark.parametrize(
    ("service", "path", "body", "expected"),
    [
        ("compute", "/v2.1/servers", b'{"server": {"availability_zone": "lyon"}}', "lyon"),
        ("compute", "/v2.1/servers", b'{"server": {"availability_zone": "lyon:host:node"}}', "lyon"),
        ("compute", "/v2.1/servers", b'{"server": {"availability_zone": "mars"}}', None),
        ("compute", "/v2.1/servers", b'{"server": {"availability_zone": 5}}', None),
        ("compute", "/v2.1/servers", b'{"server": "availability_zone"}', None),
        ("compute", "/v2.1/servers", b"availability_zone", None),
        ("compute", "/v2.1/servers", b'["availability_zone"]', None),
        ("network", "/v2.0/routers", b'{"router": {"availability_zone_hints": ["x", "lyon"]}}', "lyon"),
        ("network", "/v2.0/networks", b'{"networks": [{"availability_zone_hints": ["lyon"]}, {}]}', "lyon"),
        ("network", "/v2.0/networks", b'{"networks": []}', None),
    ],
)
def test_zones(service: str, path: str, body: bytes, expected: str | None) -> None:
    resource = match("POST", service, path).resource
    assert resource is not None
    made = creation(call(service, path, body), resource, {"paris", "lyon"})
    assert made.site == expected
    if service == "network" and expected:
        assert b"lyon" not in (made.call.body or b"")
        assert "Content-Length" not in made.call.headers
        assert (b'"x"' in made.call.body) == (b'"x"' in body)


def test_parents() -> None:
    resource = match("POST", "network", "/v2.0/floatingips").resource
    assert resource is not None
    body = b'{"floatingip": {"floating_network_id": "n", "port_id": null}}'
    (parent,) = creation(call("network", "/v2.0/floatingips", body), resource, {"paris"}).parents
    assert (parent.path, parent.id, parent.resource) == ("/v2.0/networks/n", "n", network_resource("networks"))


def test_limits_add_up() -> None:
    def body(most: int, used: int) -> dict:
        return {"limits": {"rate": [], "absolute": {"maxTotalInstances": most, "totalInstancesUsed": used, "maxServerMeta": 128}}}

    merged = aggregates.limits({"paris": body(10, 1), "lyon": body(20, 2)}, [])
    assert merged == body(30, 3)
    assert aggregates.limits({"paris": body(-1, 1), "lyon": body(20, 2)}, [])["limits"]["absolute"]["maxTotalInstances"] == -1


def test_usage_adds_up() -> None:
    def usage(hours: float, start: str) -> dict:
        return {"tenant_id": "t", "total_hours": hours, "start": start, "stop": start, "server_usages": [hours]}

    one, two = usage(1.5, "2026-01"), usage(2.0, "2025-12")
    sums = {"tenant_id": "t", "total_hours": 3.5, "start": "2025-12", "stop": "2026-01", "server_usages": [1.5, 2.0]}
    bodies = {"paris": {"tenant_usages": [one]}, "lyon": {"tenant_usages": [two, usage(1, "2026-01") | {"tenant_id": "u"}]}}
    assert aggregates.tenant_usage(bodies, []) == {"tenant_usages": [sums, usage(1, "2026-01") | {"tenant_id": "u"}]}
    assert aggregates.tenant_usage({"paris": {"tenant_usage": one}, "lyon": {"tenant_usage": {}}}, []) == {"tenant_usage": one}
    assert aggregates.tenant_usage({"paris": {"tenant_usage": {}}}, []) == {"tenant_usage": {}}


def test_zones_and_statistics() -> None:
    def zones(*names: str) -> dict:
        return {"availabilityZoneInfo": [{"zoneName": name, "zoneState": {"available": True}, "hosts": {names[-1]: {}}} for name in names]}

    merged = aggregates.availability_zones({"paris": zones("internal", "paris"), "lyon": zones("internal", "lyon")}, ["nice"])
    found = {zone["zoneName"]: (zone["zoneState"]["available"], zone["hosts"]) for zone in merged["availabilityZoneInfo"]}
    assert found == {
        "internal": (True, {"paris": {}, "lyon": {}}),
        "paris": (True, {"paris": {}}),
        "lyon": (True, {"lyon": {}}),
        "nice": (False, None),
    }
    statistics = aggregates.hypervisor_statistics(
        {"a": {"hypervisor_statistics": {"vcpus": 2}}, "b": {"hypervisor_statistics": {"vcpus": 3}}}, []
    )
    assert statistics == {"hypervisor_statistics": {"vcpus": 5}}


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, (2, 1)),
        ({"OpenStack-API-Version": "compute 2.53"}, (2, 53)),
        ({"X-OpenStack-Nova-API-Version": "2.90"}, (2, 90)),
        ({"OpenStack-API-Version": "compute latest"}, (999, 0)),
        ({"OpenStack-API-Version": "placement 1.2"}, (2, 1)),
    ],
)
def test_microversion_that_is_asked_for(headers, version):
    assert microversion(CIMultiDict(headers)) == version


def test_types_whose_ids_were_numbers_before_a_microversion():
    assert match("GET", "compute", "/v2.1/os-hypervisors/1").resource.counted_before == (2, 53)
    assert match("GET", "compute", "/v2.1/servers").resource.counted_before == (0, 0)


@pytest.mark.parametrize("second", [1, None, "x", {"availability_zone_hints": 5}, ["paris"]])
def test_a_list_with_an_item_that_is_not_a_resource_is_left_to_the_service(second: object) -> None:
    import json

    body = json.dumps({"subnets": [{"network_id": "n", "availability_zone_hints": ["paris"]}, second]}).encode()
    asked = call("network", "/v2.0/subnets", body)
    made = creation(asked, network_resource("subnets"), {"paris"})
    assert (made.call, made.site) == (asked, None)


def test_one_request_makes_parts_of_a_bounded_number_of_wholes():
    """Refuse a request with too many parents, because each is searched at every site."""
    rules = [{"security_group_id": f"g{number}", "direction": "ingress"} for number in range(MOST_PARENTS + 1)]
    asked = call("network", "/v2.0/security-group-rules", json.dumps({"security_group_rules": rules}).encode())
    with pytest.raises(Unplaceable, match="names 65 parents of its resources: expected at most 64"):
        creation(asked, network_resource("security_group_rules"), {"paris"})
    fewer = call("network", "/v2.0/security-group-rules", json.dumps({"security_group_rules": rules[1:] * 2}).encode())
    assert len(creation(fewer, network_resource("security_group_rules"), {"paris"}).parents) == MOST_PARENTS
