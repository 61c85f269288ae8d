"""The wire format: encoded frames are decoded again, and no bytes from the network do harm."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atoll.bus import frames
from atoll.bus.frames import Answer, Heartbeat, Instance, MalformedFrameError, MessageId, Question, Reply, Request, Status

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
IDS = st.builds(MessageId, U64, U64)
INSTANCES = st.builds(Instance, U64, U32)
BODIES = st.binary(max_size=200)
FRAMES = st.one_of(
    st.builds(Request, IDS, U32, st.booleans(), U64, U32, BODIES),
    st.builds(Question, IDS, U32, INSTANCES),
    st.builds(Answer, IDS, st.sampled_from(Status), INSTANCES),
    st.builds(Reply, IDS, st.booleans(), BODIES),
    st.builds(Heartbeat, IDS),
)
HEAD = 18
"""The bytes at the beginning of every frame."""


def decoded(data: bytes) -> frames.Frame | None:
    """Return the frame, or `None` for a malformed one; any other exception is a failure."""
    try:
        return frames.decode(data)
    except MalformedFrameError:
        return None


@given(FRAMES)
def test_frame_is_read_as_it_was_written(frame):
    got = frames.decode(frames.encode(frame))
    assert got == frame
    assert type(got) is type(frame)
    assert type(got.id) is MessageId


@given(st.binary(max_size=200))
@example(b"")
@example(bytes([frames.MAGIC]))
@example(bytes([frames.MAGIC, 6]) + bytes(100))
def test_any_bytes_are_a_frame_or_malformed(data):
    frame = decoded(data)
    if frame is not None:
        assert decoded(frames.encode(frame)) == frame


@given(st.integers(0, 255), st.binary(max_size=60))
def test_any_bytes_behind_the_magic_are_a_frame_or_malformed(kind, data):
    frame = decoded(bytes([frames.MAGIC, kind]) + data)
    assert frame is None or kind in range(1, 6)


@given(FRAMES, st.data())
def test_frame_that_was_cut_short_is_malformed_or_has_a_shorter_body(frame, data):
    whole = frames.encode(frame)
    cut = data.draw(st.integers(0, len(whole) - 1))
    got = decoded(whole[:cut])
    if got is not None:
        assert type(got) is type(frame)
        assert isinstance(got, Request | Reply)
        assert isinstance(frame, Request | Reply)
        assert got._replace(body=b"") == frame._replace(body=b"")
        assert frame.body.startswith(got.body)


@given(FRAMES, st.data())
def test_mutated_frame_is_a_frame_or_malformed(frame, data):
    mutated = bytearray(frames.encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    decoded(bytes(mutated))


@given(st.builds(Question, IDS, U32, INSTANCES) | st.builds(Answer, IDS, st.sampled_from(Status), INSTANCES) | st.builds(Heartbeat, IDS))
def test_frame_without_body_has_no_byte_too_many(frame):
    with pytest.raises(MalformedFrameError):
        frames.decode(frames.encode(frame) + b"x")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "0 bytes are fewer than a frame has"),
        (b"\xa1\x01", "2 bytes are fewer"),
        (b"\xa2" + bytes(40), "the first byte is 0xa2, not 0xa1"),
        (b"\xa1\x09" + bytes(40), "no frame is of kind 9"),
        (b"\xa1\x03" + bytes(16) + b"\x09" + bytes(12), "a frame of kind 3: 9 is not a valid Status"),
        (b"\xa1\x01" + bytes(16), "a frame of kind 1: "),
    ],
)
def test_malformed_frames_are_described(data, told):
    with pytest.raises(MalformedFrameError, match=told):
        frames.decode(data)


def test_identities_are_readable():
    assert str(MessageId(255, 3)) == "00000000000000ff.3"
    assert str(Instance(255, 3)) == "00000000000000ff.3"
