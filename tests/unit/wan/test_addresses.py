import pytest

from atoll.cloud.network import Node
from atoll.errors import AtollError
from atoll.wan.addresses import Addresses


def nodes(names):
    return [Node(name) for name in names]


def test_every_node_keeps_its_address():
    addresses = Addresses()
    addresses.assign(nodes("abc"))
    assert addresses.all() == {"a": "10.77.0.1", "b": "10.77.1.1", "c": "10.77.2.1"}
    addresses.assign(nodes("cda"))
    assert addresses.all() == {"a": "10.77.0.1", "c": "10.77.2.1", "d": "10.77.1.1"}


def test_too_many():
    addresses = Addresses()
    addresses.assign(nodes(map(str, range(256))))
    assert len(set(addresses.all().values())) == 256
    with pytest.raises(AtollError, match="257 sites and routers: expected at most 256"):
        addresses.assign(nodes(map(str, range(257))))


def test_a_site_has_the_address_that_it_asks_for_and_routers_are_out_of_the_way():
    addresses = Addresses()
    addresses.assign([Node("r", site=False), Node("a", address="10.77.1.1"), Node("b")])
    assert addresses.all() == {"r": "10.77.255.1", "a": "10.77.1.1", "b": "10.77.0.1"}


def test_two_nodes_cannot_have_one_address():
    with pytest.raises(AtollError, match=r"two sites or routers have the same address"):
        Addresses().assign([Node("a", address="10.77.1.1"), Node("b", address="10.77.1.1")])
