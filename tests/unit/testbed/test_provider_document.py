"""A provider's file is refused with the line; hosts are assigned by role; links become EnOSlib's constraints."""

from pathlib import Path

import pytest

from atoll.cloud import parse_cloud
from atoll.errors import AtollError
from atoll.testbed import constraints
from atoll.testbed.document import read_provider, refused
from atoll.testbed.membership import own_cloud
from atoll.testbed.placing import assign

MINIMAL = "provider: static\nconfiguration:\n  resources:\n    machines:\n    - {roles: [paris], address: 192.0.2.1}\n    networks: []\n"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "hosts.yaml"
    path.write_text(MINIMAL)
    return path


def test_minimal_file(file):
    document = read_provider(file)
    assert (document.provider, document.atoll, document.network) == ("static", None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("provider: aws\nconfiguration: {}\n", ":1: provider: expected `static`, `g5k`, `vagrant`, `chameleonkvm` or `chameleonbaremetal`"),
        ("provider: g5k\n", ":1: `configuration` is missing: expected a mapping"),
        (MINIMAL + "directory: opt/atoll\n", ":7: directory: expected an absolute path without spaces and quotes"),
        (MINIMAL + "directory: '/opt/a;b c'\n", ":7: directory: expected an absolute path without spaces and quotes"),
        (MINIMAL + "colour: red\n", ":7: unknown key `colour`"),
    ],
)
def test_wrong_file_is_refused_with_its_line(file, text, message):
    file.write_text(text)
    with pytest.raises(AtollError) as caught:
        read_provider(file)
    assert caught.value.kind.code == "testbed.invalid"
    assert message in caught.value.message


def test_missing_file(tmp_path):
    with pytest.raises(AtollError) as caught:
        read_provider(tmp_path / "none.yaml")
    assert caught.value.kind.code == "testbed.not_found"


def test_item_that_enoslib_refuses_is_reported_with_its_line(file):
    error = refused(file, ["resources", "machines", 0, "address"], "5 is not of type 'string'")
    assert error.message == f"{file}:5: configuration.resources.machines[0].address: 5 is not of type 'string'"
    assert f"{file}:2: " in refused(file, ["nothing"], "…").message


HOSTS = [{"address": f"192.0.2.{number}", "roles": roles} for number, roles in enumerate((["sites"], ["paris"], ["sites", "edge"]), 1)]


def test_sites_get_hosts_by_their_roles():
    found = assign(["paris", "lyon", "nice"], HOSTS, {"nice": "edge"}, {})
    assert {name: host["address"] for name, host in found.items()} == {"paris": "192.0.2.2", "lyon": "192.0.2.1", "nice": "192.0.2.3"}


def test_site_keeps_its_host():
    found = assign(["lyon", "nice"], HOSTS, {}, {"nice": "192.0.2.1"})
    assert {name: host["address"] for name, host in found.items()} == {"lyon": "192.0.2.3", "nice": "192.0.2.1"}


@pytest.mark.parametrize(
    ("names", "roles", "kept", "message"),
    [
        (["a", "b", "c"], {}, {}, "no host is left for c: 2 reserved hosts have the role sites"),
        (["a"], {"a": "core"}, {}, "no reserved host has the role core: expected one of edge, paris, sites"),
        (["a"], {}, {"a": "192.0.2.9"}, "no longer has 192.0.2.9, the host of a"),
    ],
)
def test_too_few_hosts(names, roles, kept, message):
    with pytest.raises(AtollError, match=message):
        assign(names, HOSTS, roles, kept)


def cloud(topology: str):
    return parse_cloud(f"name: coast\nsites: [{{name: a}}, {{name: b}}, {{name: c}}]\n{topology}", "cloud.yaml")


ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}


def test_links_become_constraints_of_each_direction():
    links = "topology: {links: [{between: [a, b], delay: 10ms, rate: 20mbit, loss: 1%}, {between: [b, c], delay: 2.5ms, loss: 2%}]}"
    found = {
        (each["from"][-1], each["to"][-1]): (each["delay"], each["rate"], each["loss"])
        for each in constraints.between(cloud(links), ADDRESSES)
    }
    assert len(found) == 6
    assert found["1", "2"] == found["2", "1"] == ("10ms", "20000kbit", "1%")
    assert found["2", "3"] == ("2.5ms", "10gbit", "2%")
    assert found["1", "3"] == ("12.5ms", "20000kbit", "2.98%"), "a path over b: 1 - 0.99 * 0.98"


def test_links_without_properties_have_no_constraints():
    assert constraints.between(cloud(""), ADDRESSES) == []
    assert constraints.between(cloud("topology: {preset: mesh}"), ADDRESSES) == []
    some = constraints.between(cloud("topology: {preset: mesh, links: [{between: [a, b], delay: 3ms, one_way: true}]}"), ADDRESSES)
    assert [(each["from"], each["to"], each["delay"]) for each in some] == [("192.0.2.1", "192.0.2.2", "3ms")]


@pytest.mark.parametrize("name", ["jitter: 2ms", "reorder: 1%"])
def test_property_that_the_service_lacks_is_refused(name):
    with pytest.raises(AtollError, match="which EnOSlib's netem service lacks") as caught:
        constraints.between(cloud(f"topology: {{defaults: {{delay: 10ms, {name}}}}}"), ADDRESSES)
    assert caught.value.kind.code == "testbed.invalid"


def test_cloud_of_a_host_has_one_site_and_no_topology():
    own = own_cloud(cloud("lists: strict\ntopology: {defaults: {delay: 10ms}}"), "b", "192.0.2.2")
    assert (own.site_names, own.topology, own.sites[0].host, own.sites[0].port) == (("b",), None, "192.0.2.2", 15000)
    assert own.lists == "strict"
