"""What requests refer to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from atoll.gateway.bring.references import FLAVOR, IMAGE, KEY_PAIR, NETWORK, PORT, SECURITY_GROUP, SUBNET, Reference, references
from atoll.gateway.request.call import Call

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
        ("image", "/v2.1/servers", SERVER, []),
        ("compute", "/v2.1/servers/x/metadata", SERVER, []),
        ("compute", "/v2.1/servers", [SERVER], []),
    ],
)
def test_others(service: str, path: str, body: Any, expected: list[tuple[str, str]]):
    assert named(service, path, body) == expected


def test_what_is_no_json_refers_to_nothing():
    bare = call("compute", "/v2.1/servers", None)
    assert references(bare.with_(body=b"{")) == []
    assert references(bare.with_(body=None)) == []


def test_it_reads_like_a_sentence():
    assert str(Reference(IMAGE, "i1")) == "image i1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SERVER["server"], "server", "port", "network_id"]), inner)
    ),
    max_leaves=12,
)


@given(body=JSON, target=st.sampled_from([("compute", "/v2.1/servers"), ("compute", "/v2.1/servers/s/action"), ("network", "/v2.0/ports")]))
def test_no_body_breaks_it(body: Any, target: tuple[str, str]):
    assert all(isinstance(each.id, str) and each.id for each in references(call(*target, body)))
