"""The JSON of messages: whether orjson or oslo's jsonutils encodes a value, the receiver gets what jsonutils would have sent."""

import contextlib
import datetime
import decimal
import enum
import ipaddress
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_serialization import jsonutils

from atoll.bus import payload

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.text(st.characters()) | st.dates() | st.datetimes() | st.uuids() | st.binary().map(lambda data: data.hex().encode()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.integers(), max_size=1),
    max_leaves=20,
)
Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Thing:
    def __init__(self):
        self.name = "x"


@dataclass
class Data:
    x: int


def as_oslo_sends(value):
    return jsonutils.loads(jsonutils.dumps(value))


@given(VALUES)
def test_value_arrives_as_by_oslo(value):
    assert payload.decode(payload.encode(value)) == as_oslo_sends(value)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_plain_value_arrives_as_it_was(value):
    got = payload.decode(payload.encode(value))
    assert got == value
    assert repr(got) == repr(value), "the types of values must be kept: an int is no float, True is not 1"


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        2**64,
        -(2**64),
        10**40,
        {"id": [10**30, 1, -1.5]},
        "\ud800",
        {"\udfff": "\ud800x"},
        {1: "a", 2.5: "b", None: "c", False: "d"},
        Pair(1, 2),
        {"pair": Pair(1, {"deep": {3}})},
        OrderedDict(b=1, a=2),
        defaultdict(list, a=[1]),
        b"bytes",
        Level.HIGH,
        ipaddress.ip_address("10.0.0.1"),
        uuid.UUID(int=7),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - the services have such
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 2),
        ValueError("it failed"),
        (1, (2, (3,))),
        iter([1, 2]),
        {"a": None, "b": float(2**60), "c": -0.0},
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],  # an address in memory differs among xdist's workers
)
def test_values_without_a_json_type_arrive_as_by_oslo(value):
    if hasattr(value, "__next__"):
        assert payload.decode(payload.encode(value)) == [1, 2]
    else:
        assert payload.decode(payload.encode(value)) == as_oslo_sends(value)


@pytest.mark.parametrize("value", [Data(1), decimal.Decimal("1.5"), Colour.RED, {"nested": [Data(2), Colour.RED]}], ids=repr)
def test_values_that_oslo_changes_are_not_refused(value):
    """Whatever oslo makes of such values, both sides agree on it, or the sender refuses it."""
    try:
        expected = as_oslo_sends(value)
    except (TypeError, ValueError):
        return
    assert payload.decode(payload.encode(value)) == expected


def test_values_that_oslo_refuses_are_refused():
    with pytest.raises((TypeError, ValueError)):
        as_oslo_sends(Thing())
    with pytest.raises((TypeError, ValueError)):
        payload.encode([{}, Thing()])


def test_deeply_nested_message_arrives():
    value: list = []
    for _ in range(400):  # beyond orjson's 254
        value = [value]
    assert payload.decode(payload.encode(value)) == value


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"[1,", b'"\xff"', b"\x00", b"[" * 100_000, b'{"a":' * 100_000, b" [", b"\xa1"])
def test_bytes_that_are_not_json_are_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011 - its text is of the JSON library
        payload.decode(data)


@given(st.binary())
def test_any_bytes_are_a_value_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        payload.decode(data)
