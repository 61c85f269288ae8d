"""The field `discovery` of the cloud's YAML."""

import pytest

from atoll.cloud import dump_cloud, parse_cloud
from atoll.errors import AtollError

SITES = "sites:\n- name: paris\n- name: lyon\n- {name: nice, kind: compute, control: paris}\n"
DISCOVERY = "discovery:\n  device_role: edge-application\n  serves:\n    paris: [10.1.0.0/16, '2001:DB8::/32']\n    abroad: [10.0.0.0/8]\n"


def test_access_networks_and_the_role_are_kept():
    cloud = parse_cloud(SITES + DISCOVERY, "c.yaml")
    expected = {"10.1.0.0/16": "paris", "2001:db8::/32": "paris", "10.0.0.0/8": "abroad"}
    assert cloud.discovery.options == {"role": "edge-application", "serves": expected}
    assert parse_cloud(dump_cloud(cloud), "c.yaml") == cloud


def test_local_networks_of_announcements_are_kept():
    cloud = parse_cloud(SITES + "discovery:\n  announce: {paris: br-lan.1, lyon: 10.2.0.0/16, abroad: wlan0}\n", "c.yaml")
    assert cloud.discovery.announce == {"paris": "br-lan.1", "lyon": "10.2.0.0/16", "abroad": "wlan0"}
    assert parse_cloud(dump_cloud(cloud), "c.yaml") == cloud


def test_by_default_no_access_network_is_known_and_nobody_asks_about_others():
    cloud = parse_cloud(SITES, "c.yaml")
    assert cloud.discovery.options == {"role": "", "serves": {}}
    assert "discovery" not in dump_cloud(cloud)


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("discovery:\n  serves: {paris: [10.1.0.1/16]}\n", 6, "10.1.0.1/16 of paris is not a prefix"),
        ("discovery:\n  serves: {paris: [everything]}\n", 6, "everything of paris is not a prefix"),
        ("discovery:\n  serves: {paris: [10.0.0.0/8], lyon: [10.0.0.0/8]}\n", 6, "paris and lyon both serve 10.0.0.0/8"),
        ("discovery:\n  serves: {nice: [10.0.0.0/8]}\n", 6, "nice is a compute site"),
        ("discovery:\n  serves: {paris: 10.0.0.0/8}\n", 6, "expected"),
        ("discovery:\n  serves: {paris: [1]}\n", 6, "expected"),
        ("discovery:\n  serves: {Paris: [10.0.0.0/8]}\n", 6, "expected"),
        ("discovery:\n  device_role: ''\n", 6, "the name of a role"),
        ("discovery:\n  role: member\n", 6, "unknown"),
        ("discovery:\n  announce: {paris: 10.1.0.1/16}\n", 6, "10.1.0.1/16 of paris is neither an interface nor an IPv4 network"),
        ("discovery:\n  announce: {paris: a-name-that-is-long}\n", 6, "neither an interface"),
        ("discovery:\n  announce: {paris: 'lan 0'}\n", 6, "neither an interface"),
        ("discovery:\n  announce: {paris: '2001:db8::/32'}\n", 6, "neither an interface"),
        ("discovery:\n  announce: {paris: ''}\n", 6, "neither an interface"),
        ("discovery:\n  announce: {nice: lan0}\n", 6, "nice is a compute site"),
        ("discovery:\n  announce: [paris]\n", 6, "a mapping of sites to interfaces or networks"),
        ("discovery: [10.0.0.0/8]\n", 5, "a mapping such as"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_place(text, line, error):
    with pytest.raises(AtollError) as raised:
        parse_cloud(SITES + text, "c.yaml")
    assert raised.value.message.startswith(f"c.yaml:{line}: ")
    assert error in raised.value.message
    assert "\n" not in raised.value.message
