import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.stores import entry

segments = st.lists(st.tuples(st.just("c"), st.binary(max_size=50)) | st.tuples(st.just("d"), st.text(max_size=50)), max_size=5)
values = st.lists(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9) | st.binary(max_size=9), max_size=4
)


@given(segments)
def test_a_payload_is_read_as_it_was_written(written):
    assert entry.unpack(entry.pack(written)) == written


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data):
    try:
        found = entry.unpack(data)
    except ValueError:
        return
    assert entry.unpack(entry.pack(found)) == found


@pytest.mark.parametrize("data", [b"", b"\x91\x92\xa1x\xa1y", b"\x91\x92\xa1c\xa1y", b"\xc1", b"\x05"])
def test_wrong_segments_are_refused(data):
    with pytest.raises(ValueError, match="no log entry"):
        entry.unpack(data)


@given(values, values)
def test_keys_differ_where_sqlite_sees_a_difference(one, two):
    def as_sqlite_compares(items):
        return [(isinstance(item, str), isinstance(item, bytes), item) for item in items]

    same = as_sqlite_compares(one) == as_sqlite_compares(two)
    assert (entry.key("t", "row", one) == entry.key("t", "row", two)) is same


def test_keys_of_numbers_follow_sqlite():
    assert entry.key("t", "row", [1]) == entry.key("T", "row", [1.0])
    assert entry.key("t", "row", [1]) != entry.key("t", "row", ["1"])
    assert entry.key("t", "row", ["a", "b"]) != entry.key("t", "row", ["ab"])
    assert len(entry.key("t", "")) == entry.KEY_BYTES == len(entry.SCHEMA)
