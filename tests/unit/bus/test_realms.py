"""Realms: each client of a router has one of its own."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.bus import realms


@given(st.sets(st.text(max_size=10), max_size=50))
def test_each_has_one_of_its_own(names):
    assigned = realms.assign(names)
    assert assigned.keys() == names
    assert len(set(assigned.values())) == len(names)
    assert all(realms.OWN < realm <= realms.LARGEST for realm in assigned.values())
    assert realms.assign(sorted(names, reverse=True)) == assigned


def test_two_names_of_one_hash_are_told_apart(monkeypatch):
    class Same:
        def __init__(self, _data: bytes) -> None: ...

        def digest(self) -> bytes:
            return b"\xff" * 32

    monkeypatch.setattr(realms.hashlib, "sha256", Same)
    assert realms.assign("abc") == {"a": realms.LARGEST, "b": 1, "c": 2}


@given(st.integers(0, realms.LARGEST))
def test_node_is_of_its_realm_and_fits_a_frame(realm):
    node = realms.new_node(realm)
    assert realms.realm_of(node) == realm
    assert node < 2**64
