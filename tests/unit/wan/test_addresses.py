import pytest

from atoll.errors import AtollError
from atoll.wan.addresses import Addresses


def test_every_node_keeps_its_address():
    addresses = Addresses()
    addresses.assign(["a", "b", "c"])
    assert addresses.all() == {"a": "10.77.0.1", "b": "10.77.1.1", "c": "10.77.2.1"}
    addresses.assign(["c", "d", "a"])
    assert addresses.all() == {"a": "10.77.0.1", "c": "10.77.2.1", "d": "10.77.1.1"}


def test_too_many():
    addresses = Addresses()
    addresses.assign(str(number) for number in range(256))
    assert len(set(addresses.all().values())) == 256
    with pytest.raises(AtollError, match="257 sites and routers: the WAN holds at most 256"):
        addresses.assign(str(number) for number in range(257))
