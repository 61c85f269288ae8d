"""The framing: every message survives it, and no bytes break it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.control.messages import decode, encode, error_from_json, error_to_json, failure, result
from atoll.errors import REGISTRY, AtollError

texts = st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
messages = st.dictionaries(texts, values, max_size=6)
errors = st.builds(AtollError, st.sampled_from(sorted(REGISTRY)), texts, st.none() | texts)


@given(messages)
def test_message_is_one_line_and_the_same_again(message):
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message


@given(st.lists(messages, max_size=5))
def test_messages_one_after_the_other_come_apart_again(several):
    stream = b"".join(map(encode, several))
    assert [decode(line) for line in stream.splitlines(keepends=True)] == several


@given(st.binary() | values.map(lambda value: repr(value).encode()))
def test_any_bytes_are_a_message_or_a_value_error(line):
    with suppress(ValueError):
        assert isinstance(decode(line), dict)


def test_deep_nesting_is_a_value_error():
    with pytest.raises(ValueError, match="one line with a JSON object"):
        decode(b"[" * 100_000)


@given(errors)
def test_error_is_the_same_again(error):
    again = error_from_json(decode(encode(error_to_json(error))))
    assert (again.kind, again.message, again.hint) == (error.kind, error.message, error.hint)
    with pytest.raises(AtollError) as caught:
        result(decode(failure(error)))
    assert caught.value.kind == error.kind


def test_code_of_another_version_becomes_the_clients_own():
    data = {"code": "from.the.future", "message": "m", "hint": None}
    assert error_from_json(data).kind.code == "runtime.invalid"
    assert error_from_json(data, "gateway.failed").kind.code == "gateway.failed"
