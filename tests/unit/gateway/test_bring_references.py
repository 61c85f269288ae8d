"""The references in requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from atoll.gateway.bring.implied_network import names_none
from atoll.gateway.bring.references import FLAVOR, IMAGE, KEY_PAIR, NETWORK, PORT, SECURITY_GROUP, SUBNET, Reference, references
from atoll.gateway.request.call import Call
from atoll.gateway.resolve import references as table
from atoll.gateway.resolve.mentions import given_ids, involves_default, mentions, named_by, parents_of

PROJECT = "0123456789abcdef0123456789abcdef"


def call(service: str, path: str, body: Any) -> Call:
    return Call("POST", service, path, "", CIMultiDict(), json.dumps(body).encode(), "req-1")


def named(service: str, path: str, body: Any) -> list[tuple[str, str]]:
    return [(each.kind, each.id) for each in references(call(service, path, body))]


SERVER = {
    "server": {
        "name": "s",
        "imageRef": "http://glance/images/i1",
        "flavorRef": "f1",
        "key_name": "k1",
        "networks": [{"uuid": "n1"}, {"port": "p1"}, {"uuid": "n1"}, {"uuid": "n2"}],
        "security_groups": [{"name": "web"}],
        "block_device_mapping_v2": [{"source_type": "image", "uuid": "i2"}, {"source_type": "volume", "uuid": "v"}],
    }
}
ALL = [
    *[(FLAVOR, "f1"), (KEY_PAIR, "k1"), (NETWORK, "n1"), (NETWORK, "n2"), (SECURITY_GROUP, "web")],
    *[(PORT, "p1"), (IMAGE, "i1"), (IMAGE, "i2")],
]


@pytest.mark.parametrize("path", ["/v2.1/servers", f"/v2.1/{PROJECT}/servers", f"/v2/{PROJECT}/servers"])
def test_server(path: str):
    assert named("compute", path, SERVER) == ALL


@pytest.mark.parametrize(
    ("service", "path", "body", "expected"),
    [
        ("compute", "/v2.1/servers", {"server": {"networks": "auto", "imageRef": "", "flavorRef": "1"}}, [(FLAVOR, "1")]),
        ("compute", "/v2.1/servers/s/action", {"rebuild": {"imageRef": "i", "key_name": "k"}}, [(KEY_PAIR, "k"), (IMAGE, "i")]),
        ("compute", "/v2.1/servers/s/action", {"resize": {"flavorRef": "f"}}, [(FLAVOR, "f")]),
        ("compute", "/v2.1/servers/s/action", {"addSecurityGroup": {"name": "g"}}, [(SECURITY_GROUP, "g")]),
        ("compute", "/v2.1/servers/s/action", {"os-stop": None}, []),
        ("compute", "/v2.1/servers/s/os-interface", {"interfaceAttachment": {"net_id": "n"}}, [(NETWORK, "n")]),
        ("network", "/v2.0/subnets", {"subnets": [{"network_id": "a"}, {"network_id": "b"}]}, [(NETWORK, "a"), (NETWORK, "b")]),
        (
            "network",
            "/v2.0/ports.json",
            {"port": {"network_id": "n", "security_groups": ["g"], "fixed_ips": [{"subnet_id": "s"}]}},
            [(NETWORK, "n"), (SUBNET, "s"), (SECURITY_GROUP, "g")],
        ),
        (
            "network",
            "/v2.0/security-group-rules",
            {"security_group_rule": {"security_group_id": "a", "remote_group_id": "b"}},
            [(SECURITY_GROUP, "a"), (SECURITY_GROUP, "b")],
        ),
        ("network", "/v2.0/routers", {"router": {"external_gateway_info": {"network_id": "x"}}}, [(NETWORK, "x")]),
        ("network", "/v2.0/routers/r/add_router_interface", {"subnet_id": "s"}, [(SUBNET, "s")]),
        ("network", "/v2.0/floatingips", {"floatingip": {"floating_network_id": "x"}}, [(NETWORK, "x")]),
        ("network", "/v2.0/networks", {"network": {"network_id": "n"}}, []),
        ("network", "/v2.0/routers/r/add_router_interface.json", {"port_id": "p"}, [(PORT, "p")]),
        ("network", "/v2.0/routers/r/remove_router_interface", {"subnet_id": "s"}, []),
        (
            "network",
            "/v2.0/routers/r/add_external_gateways",
            {"router": {"external_gateways": [{"network_id": "n", "external_fixed_ips": [{"subnet_id": "s"}]}]}},
            [(NETWORK, "n"), (SUBNET, "s")],
        ),
        ("network", "/v2.0/trunks/t/add_subports", {"sub_ports": [{"port_id": "p"}, {"port_id": "q"}]}, [(PORT, "p"), (PORT, "q")]),
        ("compute", "/v2.1/servers", {"server": {"networks": [{"port": "p"}]}}, [(PORT, "p")]),
        ("compute", "/v2.1/servers/s/action", {"rescue": {"rescue_image_ref": "i"}}, [(IMAGE, "i")]),
        ("compute", "/v2.1/servers/s/action", {"addFixedIp": {"networkId": "n"}}, [(NETWORK, "n")]),
        ("compute", "/v2.1/os-aggregates/1/images", {"cache": [{"id": "i"}]}, [(IMAGE, "i")]),
        ("image", "/v2/images", {"kernel_id": "k", "ramdisk_id": "r", "owner": "o"}, [(IMAGE, "k"), (IMAGE, "r")]),
        ("image", "/v2.1/servers", SERVER, []),
        ("compute", "/v2.1/servers/x/metadata", SERVER, []),
        ("compute", "/v2.1/servers", [SERVER], []),
    ],
)
def test_others(service: str, path: str, body: Any, expected: list[tuple[str, str]]):
    assert named(service, path, body) == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "qos/policies", {"policy": {"name": "q"}}, []),
        ("PUT", "networks/n", {"network": {"qos_policy_id": "q"}}, ["QoS policy q"]),
        ("PUT", "networks/n", {"network": {"qos_policy_id": None}}, []),
        ("DELETE", "networks/n", {"network": {"qos_policy_id": "q"}}, []),
        ("POST", "subnets", {"subnets": [{"subnetpool_id": "p"}, {"segment_id": "s"}]}, ["segment s", "subnet pool p"]),
        ("POST", "floatingips/f/port_forwardings", {"port_forwarding": {"internal_port_id": "p"}}, ["port p"]),
        ("PUT", "floatingips/f/port_forwardings/x", {"port_forwarding": {"internal_port_id": "p"}}, ["port p"]),
        ("POST", "rbac-policies", {"rbac_policy": {"object_type": "qos_policy", "object_id": "q"}}, ["QoS policy q"]),
        ("POST", "rbac-policies", {"rbac_policy": {"object_type": "unheard", "object_id": "q"}}, []),
        ("POST", "log/logs", {"log": {"resource_type": "firewall_group", "resource_id": "g"}}, ["firewall group g"]),
        ("POST", "vpn/endpoint-groups", {"endpoint_group": {"type": "subnet", "endpoints": ["a", "b"]}}, ["subnet a", "subnet b"]),
        ("POST", "vpn/endpoint-groups", {"endpoint_group": {"type": "cidr", "endpoints": ["10.0.0.0/8"]}}, []),
        ("POST", "sfc/service_graphs", {"service_graph": {"port_chains": {"a": ["b"]}}}, ["port chain b"]),
        (
            "PUT",
            "fwaas/firewall_policies/p/insert_rule",
            {"firewall_rule_id": "r", "insert_before": "s"},
            ["firewall rule r", "firewall rule s"],
        ),
        ("PUT", "bgp-speakers/s/add_bgp_peer", {"bgp_peer_id": "p"}, ["BGP peer p"]),
        ("POST", "agents/a/dhcp-networks", {"network_id": "n"}, ["network n"]),
        ("POST", "metering/metering-label-rules.json", {"metering_label_rule": {"metering_label_id": "m"}}, ["metering label m"]),
    ],
)
def test_path_templates_of_neutron(method: str, path: str, body: Any, expected: list[str]):
    asked = call("network", f"/v2.0/{path}", body).with_(method=method)
    assert sorted(str(mention.reference) for mention in mentions(asked)) == expected


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([{"op": "replace", "path": "/kernel_id", "value": "k"}, {"op": "remove", "path": "/ramdisk_id"}], [(IMAGE, "k")]),
        ([{"op": "add", "path": "/name", "value": "k"}, 7, {"path": 3}], []),
    ],
)
def test_change_of_an_image(patch: Any, expected: list[tuple[str, str]]):
    asked = call("image", "/v2/images/i", patch).with_(method="PATCH")
    assert [(each.kind, each.id) for each in references(asked)] == expected


def test_resource_that_is_brought_is_read_by_the_same_table():
    network = {"id": "n", "qos_policy_id": "q", "ipv4_address_scope": "a", "ipv6_address_scope": None}
    assert sorted(str(mention.reference) for mention in named_by(NETWORK, network)) == ["QoS policy q", "address scope a"]
    # A copy keeps the prefix that came from the pool.
    assert named_by(SUBNET, {"id": "s", "subnetpool_id": "p"}) == []
    assert [str(mention.reference) for mention in named_by(IMAGE, {"kernel_id": "k"})] == ["image k"]
    assert named_by(FLAVOR, {"id": "f"}) == []


@pytest.mark.parametrize(
    ("collection", "item", "expected"),
    [
        ("floatingips", {"floating_network_id": "n", "port_id": "p"}, ["port p", "network n"]),
        ("rbac_policies", {"object_type": "network", "object_id": "n"}, ["network n"]),
        ("port_pairs", {"ingress": "a", "egress": 7}, ["port a"]),
        ("networks", {"availability_zone_hints": ["paris"]}, []),
        ("servers", {"imageRef": "i"}, []),
    ],
)
def test_where_a_request_goes(collection: str, item: dict[str, Any], expected: list[str]):
    assert [str(each) for each in parents_of(collection, item)] == expected


def test_every_kind_that_may_be_elsewhere_can_be_looked_for():
    tables = (table.COMPUTE, table.NETWORKING, table.IMAGES)
    fields = [field for each in tables for fields in each.values() for field in fields]
    looked_for = {field.kind for field in fields if field.action in {table.BRING, table.MOVE, table.REFUSE}}
    assert looked_for - table.KINDS.keys() == {table.HOST, table.ZONE, table.FLOATING_IP}
    for field in fields:
        field.hint.format(here="a", site="b")


def test_a_body_that_is_not_json_has_no_references():
    bare = call("compute", "/v2.1/servers", None)
    assert references(bare.with_(body=b"{")) == []
    assert references(bare.with_(body=None)) == []


def test_a_reference_is_printed_as_words():
    assert str(Reference(IMAGE, "i1")) == "image i1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SERVER["server"], "server", "port", "network_id", "id", "subnet_id", "kernel_id"]), inner)
    ),
    max_leaves=12,
)


TARGETS = [
    *[("compute", "/v2.1/servers"), ("compute", "/v2.1/servers/s/action"), ("network", "/v2.0/ports"), ("image", "/v2/images")],
    *[("network", "/v2.0/routers/r/add_router_interface"), ("network", "/v2.0/security-group-rules")],
]


@given(body=JSON, target=st.sampled_from(TARGETS))
def test_no_body_breaks_it(body: Any, target: tuple[str, str]):
    asked = call(*target, body)
    assert all(isinstance(each.id, str) and each.id for each in references(asked))
    assert involves_default(asked, "g") in {True, False}
    assert all(isinstance(each, str) for each in given_ids(asked))
    assert names_none(asked) in {True, False}
