"""Arbitrary bytes at each decoder of the mesh: it accepts or refuses them, and takes no more memory than they have."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from documents import Site, key_of
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.mesh.entry import read_entry
from atoll.mesh.envelope import Channel, Envelopes, Rejected, carried
from atoll.mesh.pages import PAGE_BYTES, Page, PageReader, PageRequest, PageSender
from atoll.mesh.parts import MAX_UPDATE_BYTES, Part, unpack_parts, unpack_state
from atoll.mesh.probes import ProbeMessage
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer
from atoll.mesh.stream import Stream
from atoll.mesh.sync import DocumentSync

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=60)
PACKED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)


def packed(value: object) -> bytes:
    try:
        return bytes(msgpack.packb(value))
    except OverflowError:  # an integer of more than 64 bits
        return b"\xc1"


BYTES = st.binary(max_size=300) | PACKED.map(packed)


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for the bytes with some of them changed, inserted or removed."""

    def apply(steps: list[tuple[int, int, int]]) -> bytes:
        found = bytearray(data)
        for where, kind, value in steps:
            position = where % max(1, len(found))
            if kind == 0 and found:
                found[position] = value
            elif kind == 1:
                found.insert(position, value)
            elif found:
                del found[position]
        return bytes(found)

    return st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=6).map(apply)


PARIS = Site("paris")
for number in range(20):
    PARIS.write(str(number % 7), present=True, text="x" * number)
PART = PARIS.document.part("paris")
assert PART is not None
VECTOR = PARIS.document.state_vector()
NAMES = {"paris": b"paris---", "lyon": b"lyon----"}


def envelopes(name: str) -> Envelopes:
    def member(short: bytes) -> tuple[str, object] | None:
        found = next((each for each, known in NAMES.items() if known == short), None)
        return (found, key_of(found)[1]) if found else None

    return Envelopes("unit", NAMES[name].hex(), Signer(key_of(name)[0]), member, lambda name: NAMES[name].hex(), lambda size: b"r" * size)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_envelopes(data: st.DataObject) -> None:
    sender, reader = envelopes("lyon"), envelopes("paris")
    hello = sender.hello("paris", b"vouchers")
    assert reader.open(hello).sender == "lyon"
    message = data.draw(BYTES | mutated(hello))
    for opener in (reader.open, carried):
        try:
            opened = opener(message)
        except Rejected:
            continue
        if opener is reader.open and message != hello:
            raise AssertionError(f"a forged message is taken: {opened!r}")
    assert Channel.HELLO == 0


DECODERS: list[Callable[[bytes], object]] = [
    Part.unpack,
    unpack_parts,
    unpack_state,
    ProbeMessage.decode,
    lambda data: read_entry("thing/1", data.decode("latin-1"), 10),
    lambda data: Stream("nice").apply(data, 3),
    PARIS.document.merge,
    lambda data: list(PARIS.document.parts(data)),
    PARIS.document.lacks,
    lambda data: DocumentSync(PARIS.document).on_message("lyon", data),
]


@pytest.mark.parametrize("decode", DECODERS, ids=range(len(DECODERS)))
@settings(max_examples=100, deadline=None)
@given(data=st.one_of(BYTES, mutated(PART.pack()), mutated(PART.update), mutated(VECTOR), mutated(msgpack.packb([2, PART.pack()]))))
def test_decoders(decode: Callable[[bytes], object], data: bytes) -> None:
    before = PARIS.view()
    with contextlib.suppress(Refused, ValueError):
        decode(data)
    assert PARIS.view() == before


BOMBS = [
    b"\xdd\xff\xff\xff\xff",  # a list of 2**32 items
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 5000,  # nested lists
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 20,  # Yjs: numbers near 2**63
    b"\x01\xff\xff\xff\xff\x0f\x01\x00",
    b"\x00\x01\x01\xff\xff\xff\xff\x0f",
    b"[" * 100_000,
    b'{"a":' * 50_000,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_claimed_sizes_take_no_memory(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        for decode in DECODERS:
            with contextlib.suppress(Refused, ValueError):
                decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


# --- Pages

LARGE = bytes(range(256)) * (PAGE_BYTES // 256 * 6 + 5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pages_that_come_twice_late_or_never_make_the_part_or_nothing(data: st.DataObject) -> None:
    shelf, reading = PageSender(lambda _author, _base: PART), PageReader()
    first = shelf.open(PART, LARGE)
    under_way = list(first)
    whole = None
    for _ in range(80):
        if not under_way:
            under_way = list(first)  # after a while the part is offered again
        page = under_way.pop(data.draw(st.integers(0, min(2, len(under_way) - 1))) if data.draw(st.booleans()) else 0)
        fate = data.draw(st.sampled_from(["come", "come", "come", "twice", "never"]))
        for _ in range({"come": 1, "twice": 2, "never": 0}[fate]):
            turned = reading.take(page)
            if isinstance(turned, bytes):
                whole = turned
            elif isinstance(turned, PageRequest):
                under_way += shelf.turn(turned)
        if whole is not None:
            break
    assert whole in (None, LARGE)


@pytest.mark.parametrize(
    "page",
    [
        Page("a", 0, b"d" * 32, 0, MAX_UPDATE_BYTES + 1, b"x"),
        Page("a", 0, b"d" * 32, -1, 10, b"x"),
        Page("a", 0, b"d" * 32, 10, 10, b"x"),
        Page("a", 0, b"d" * 32, 0, 10, b""),
        Page("a", 0, b"d" * 32, 0, PAGE_BYTES * 2, b"x" * (PAGE_BYTES + 1)),
        Page("a", 0, b"short", 0, 10, b"x"),
        Page("a", 0, b"d" * 32, 0, 1, b"x"),
    ],
    ids=range(7),
)
def test_pages_that_are_none(page: Page) -> None:
    with pytest.raises(Refused):
        PageReader().take(page)


def test_a_page_that_is_not_there() -> None:
    shelf = PageSender(lambda _author, _base: None)
    (page,) = shelf.open(PART, LARGE)
    with pytest.raises(Refused):
        shelf.turn(PageRequest("a", 0, page.digest, len(LARGE)))
    assert shelf.turn(PageRequest("a", 0, b"unknown", 0)) == []


def test_one_unfinished_part_is_held_at_a_time() -> None:
    reading = PageReader()
    for number in range(100):
        reading.take(Page("a", 0, bytes([number]) * 32, 0, MAX_UPDATE_BYTES, b"x" * PAGE_BYTES))
    assert len(reading._data) == PAGE_BYTES
