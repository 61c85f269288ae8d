"""The body of a discovery request, and the access networks of sites."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.gateway.edge.access_networks import AccessNetworks
from atoll.gateway.edge.device import parse
from atoll.gateway.edge.problem import Problem

IPV4 = {"publicAddress": "192.0.2.7", "publicPort": 5000}


def device(**identifiers: object) -> bytes:
    return json.dumps({"device": identifiers}).encode()


@pytest.mark.parametrize("body", [b"{}", b" {} "])
def test_a_body_may_name_no_device(body):
    assert parse(body) == ()


def test_the_addresses_of_a_device_are_found_in_the_order_of_their_use():
    body = device(
        networkAccessIdentifier="1@example.org",
        phoneNumber="+123456789",
        ipv6Address="2001:db8::1",
        ipv4Address={"publicAddress": "192.0.2.7", "privateAddress": "10.0.0.7", "publicPort": 1024},
    )
    found = [(each.name, [str(address) for address in each.addresses]) for each in parse(body)]
    assert found == [
        ("ipv4Address", ["192.0.2.7", "10.0.0.7"]),
        ("ipv6Address", ["2001:db8::1"]),
        ("phoneNumber", []),
        ("networkAccessIdentifier", []),
    ]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b"[]", b"null", b"7", b'"device"', b"NaN", b"[" * 5000, b'{"device": NaN}'),
        *(b'{"device": null}', b'{"device": []}', b'{"device": {}}', b'{"Device": {}}', b'{"device": {"imei": "1"}}'),
        *(device(ipv4Address=IPV4 | {"mac": "1"}), device(ipv4Address="192.0.2.7"), device(ipv4Address={})),
        *(device(ipv4Address={"publicAddress": "192.0.2.7"}), device(ipv4Address={"publicPort": 5000})),
        *(device(ipv4Address={"privateAddress": "10.0.0.7", "publicPort": 5000}),),
        *(
            device(ipv4Address=IPV4 | {"publicAddress": each})
            for each in ("192.0.2.07", "192.0.2", "192.0.2.0/24", 3221225991, None, "::1")
        ),
        *(device(ipv4Address=IPV4 | {"privateAddress": each}) for each in ("", "example.org", True)),
        *(device(ipv4Address=IPV4 | {"publicPort": each}) for each in ("5000", 5000.0, True, None)),
        *(device(ipv6Address=each) for each in ("192.0.2.7", "2001:db8::/32", "fe80::1%eth0", "", 1, None)),
        *(
            device(phoneNumber=each)
            for each in ("123456789", "+0123456", "+1234", "+1234567890123456", "+12345678x", "+123456789\n", 1, None)
        ),
        *(device(networkAccessIdentifier=each) for each in (1, None, {})),
    ],
    ids=repr,
)
def test_a_body_that_the_schema_does_not_allow_is_invalid(body):
    with pytest.raises(Problem) as raised:
        parse(body)
    assert (raised.value.status, raised.value.code) == (400, "INVALID_ARGUMENT")
    assert raised.value.message


@pytest.mark.parametrize("port", [-1, 0, 1023, 65536, 1 << 62])
def test_a_port_out_of_range_has_an_error_of_its_own(port):
    with pytest.raises(Problem) as raised:
        parse(device(ipv4Address=IPV4 | {"publicPort": port}))
    assert (raised.value.status, raised.value.code) == (400, "OUT_OF_RANGE")


NAMES = st.sampled_from(
    ["device", "ipv4Address", "ipv6Address", "phoneNumber", "networkAccessIdentifier", "publicAddress", "privateAddress", "publicPort"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.ip_addresses().map(str)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4))
DEVICES = st.fixed_dictionaries({"device": st.dictionaries(NAMES, VALUES, max_size=4)})


def _status(body: bytes) -> int:
    try:
        found = parse(body)
    except Problem as problem:
        return problem.status
    return 200 if all(each.name in json.loads(body)["device"] for each in found) else 500


@given(st.binary(max_size=200) | (VALUES | DEVICES).map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_device_or_a_problem_of_the_client(body):
    assert _status(body) in {200, 400}


@settings(max_examples=40)
@given(
    st.ip_addresses(v=4).map(lambda address: {"publicAddress": str(address), "privateAddress": str(address)})
    | st.tuples(st.ip_addresses(v=4), st.integers(1024, 65535)).map(lambda pair: {"publicAddress": str(pair[0]), "publicPort": pair[1]}),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"\+[1-9][0-9]{4,14}", fullmatch=True),
    st.text(),
    st.lists(st.sampled_from(["ipv4Address", "ipv6Address", "phoneNumber", "networkAccessIdentifier"]), min_size=1, unique=True),
)
def test_every_device_of_the_schema_is_accepted(ipv4, ipv6, phone, access, names):
    whole = {"ipv4Address": ipv4, "ipv6Address": ipv6, "phoneNumber": phone, "networkAccessIdentifier": access}
    try:
        body = device(**{name: whole[name] for name in names})
    except UnicodeEncodeError:
        return
    assert {each.name: each.value for each in parse(body)} == {name: whole[name] for name in names}


# Access networks

SERVES = {"10.0.0.0/8": "brest", "10.1.0.0/16": "metz", "10.1.2.3/32": "pau", "2001:db8::/32": "metz", "::/0": "brest"}


@pytest.mark.parametrize(
    ("address", "site"),
    [
        *(("10.2.0.1", "brest"), ("10.1.0.1", "metz"), ("10.1.2.3", "pau"), ("10.1.2.4", "metz"), ("11.0.0.1", None)),
        *(("2001:db8:1::1", "metz"), ("2001:db9::1", "brest"), ("::1", "brest"), ("::ffff:10.1.2.3", "pau"), ("::ffff:11.0.0.1", None)),
    ],
)
def test_the_longest_prefix_applies(address, site):
    assert AccessNetworks(SERVES).site_of(ip_address(address)) == site


PREFIXES = st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(lambda length: str(ip_network((str(address), length), strict=False)))
)


@settings(max_examples=40)
@given(st.dictionaries(PREFIXES, st.sampled_from(["brest", "metz", "pau"]), max_size=8), st.ip_addresses())
def test_the_longest_prefix_among_any_applies(serves, address):
    mapped = getattr(address, "ipv4_mapped", None) or address
    fits = [ip_network(prefix) for prefix in serves if mapped in ip_network(prefix)]
    longest = max(fits, key=lambda network: network.prefixlen, default=None)
    assert AccessNetworks(serves).site_of(address) == (serves[str(longest)] if longest else None)
