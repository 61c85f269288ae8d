import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.probes import ProbeMessage
from atoll.mesh.swim import MAX_INCARNATION, Ack, Ask, Gossip, News, PeerState, Ping
from atoll.mesh.vivaldi import Coordinate

names = st.text(min_size=1, max_size=32, alphabet="abc-0")
numbers = st.integers(0, MAX_INCARNATION)
news = st.lists(st.builds(News, names, st.sampled_from(PeerState), numbers), max_size=6).map(tuple)
digests = st.none() | numbers
messages = st.one_of(
    st.builds(Ping, numbers, news, digests),
    st.builds(Ack, numbers, news, digests),
    st.builds(Ask, numbers, names, news),
    st.builds(Gossip, news),
)


@given(messages, st.binary(max_size=8), st.integers(0, 2**63))
def test_encoded_probe_is_decoded(message, digest, clock_ms):
    probe = ProbeMessage(message, Coordinate(1.5, -2.0, 0.25, 0.5), digest, clock_ms)
    assert ProbeMessage.decode(probe.encode()) == probe


@given(st.binary(max_size=60))
def test_any_bytes_are_a_probe_or_refused(data):
    try:
        probe = ProbeMessage.decode(data)
    except ValueError:
        return
    assert math.isfinite(probe.coordinate.distance(Coordinate()))


@given(messages, st.data())
def test_half_a_probe_is_not_another_message(message, data):
    whole = ProbeMessage(message, Coordinate(), b"12345678", 1_700_000_000_000).encode()
    half = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        decoded = ProbeMessage.decode(half).message
    except ValueError:
        return
    assert len(decoded.news) < len(message.news) or (decoded == replace(message, digest=None) != message)


def test_versions_without_digests_take_one_for_news_about_no_member():
    encoded = ProbeMessage(Ping(1, (), 7), Coordinate(), b"", 0).encode()
    news = ProbeMessage(Ping(1, (News("x", PeerState.ALIVE, 7),)), Coordinate(), b"", 0).encode()
    assert encoded == news[:-2] + b"\x00"


def test_a_quiet_probe_is_small():
    assert len(ProbeMessage(Ping(1), Coordinate(), b"12345678", 1_700_000_000_000).encode()) <= 30


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="malformed probe"):
        ProbeMessage.decode(b"\x09" + ProbeMessage(Ping(1), Coordinate(), b"", 0).encode()[1:])


def test_a_large_probe_is_refused_before_it_is_read():
    news = tuple(News(f"{number:03d}{'x' * 252}", PeerState.ALIVE, 0) for number in range(200))
    largest = ProbeMessage(Gossip(news), Coordinate(), b"12345678", 0).encode()
    assert len(ProbeMessage.decode(largest).message.news) == 200, "a whole batch with the longest names"
    with pytest.raises(ValueError, match="expected at most 65536"):
        ProbeMessage.decode(largest + bytes(1 << 16))
