"""Messages over MQTT: encoding, decoding, and refusal."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from use_cases.messages import Malformed, decode, encode

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**53), 2**53) | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=10,
)


@given(some.dictionaries(some.text(), VALUES))
def test_round_trip(message):
    assert decode(encode(message), *message) == message


@given(some.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(payload):
    with suppress(Malformed):
        assert isinstance(decode(payload), dict)


@pytest.mark.parametrize(
    ("payload", "told"), [(b"{", "not JSON"), (b"[1]", "list: expected an object"), (b"{}", "lacks x"), (b"\xff", "not JSON")]
)
def test_refused(payload, told):
    with pytest.raises(Malformed, match=told):
        decode(payload, "x")


def test_same_bytes_whatever_the_order():
    assert encode({"b": 1, "a": 2}) == encode({"a": 2, "b": 1})
    assert json.loads(encode({"a": 2})) == {"a": 2}
