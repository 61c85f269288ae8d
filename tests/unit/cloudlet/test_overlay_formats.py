"""Parsers: any bytes give a value or one clear error, in bounded memory; a flipped bit anywhere is found."""

import random
import struct
import tracemalloc
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machines import PAGE, Machine, quiet

from atoll.cloudlet import description, header, image, merkle, segment
from atoll.cloudlet.description import ImageDescription, Part
from atoll.cloudlet.header import Entry
from atoll.cloudlet.inspection import check_overlay
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.pages import as_pages
from atoll.cloudlet.segment import Segment
from atoll.cloudlet.source import FileSource
from atoll.errors import AtollError

KEY = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,15}", fullmatch=True).filter(lambda name: name not in description.RESERVED)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64)
DESCRIPTIONS = st.builds(
    lambda sizes, cpu, machine: ImageDescription(
        tuple(Part(name, size, bytes([size % 256]) * 32) for name, size in sorted(sizes.items())),
        (cpu or "x") if "memory" in sizes else "",
        machine,
    ),
    st.dictionaries(NAMES | st.just("memory"), st.integers(1, description.MOST_BYTES), min_size=1, max_size=8),
    TEXTS,
    TEXTS,
)


def reader(data: bytes):
    return FileSource(BytesIO(data), "overlay")


def read_head(data: bytes, key: SigningKey = KEY):
    source = reader(data)
    found = header.read_header(source.read, [key.trusted], source.name)
    return found, header.read_table(source.read, found, source.name)


@given(DESCRIPTIONS)
def test_description_round_trip(made):
    made.check("made")
    assert description.parse(made.pack(), len(made.parts), "made") == made
    assert image.unpack(image.pack(made), "made") == made


@given(DESCRIPTIONS, DESCRIPTIONS)
def test_digest_identifies_a_description(left, right):
    assert (left.digest == right.digest) == (left == right)


@given(st.binary(max_size=700))
def test_any_bytes_as_an_image(data):
    with pytest.raises(AtollError, match="data: ") as caught:
        image.unpack(data, "data")
    assert caught.value.kind.code == "cloudlet.invalid"


@given(DESCRIPTIONS, st.data())
def test_flipped_bit_in_an_image(made, data):
    packed = bytearray(image.pack(made))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AtollError):
        image.unpack(bytes(packed), "made")


@given(st.binary(max_size=1200))
def test_any_bytes_as_an_overlay(data):
    for given_ in (data, b"ATOLLOVL\1\0\1\0" + data):
        with pytest.raises(AtollError) as caught:
            read_head(given_)
        assert caught.value.kind.code in {"cloudlet.invalid", "cloudlet.untrusted", "cloudlet.source"}
        assert "\n" not in caught.value.message


ENTRIES = st.lists(st.builds(Entry, st.integers(segment.SHORTEST, segment.LONGEST), st.binary(min_size=32, max_size=32)), max_size=40)
SIGNERS = st.sampled_from([KEY, SigningKey(ec.derive_private_key(7, ec.SECP256R1()))])


@given(DESCRIPTIONS, ENTRIES, SIGNERS)
def test_head_round_trip(made, entries, key):
    packed = header.write_head(b"b" * 32, made, entries, key)
    found, table = read_head(packed, key)
    assert (found.base, found.result, table, found.head_length) == (b"b" * 32, made, entries, len(packed))
    assert found.length == sum(entry.length for entry in entries)


@given(DESCRIPTIONS, ENTRIES, SIGNERS, st.data())
def test_flipped_bit_in_a_head(made, entries, key, data):
    packed = bytearray(header.write_head(b"b" * 32, made, entries, key))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AtollError):
        read_head(bytes(packed), key)


@pytest.mark.parametrize("cut", [0, 8, 95, 200, 343, 344, 379])
def test_head_that_ends_early(cut):
    packed = header.write_head(b"b" * 32, ImageDescription((Part("disk", 1, b"r" * 32),)), [Entry(100, b"d" * 32)], KEY)
    assert len(packed) > cut
    with pytest.raises(AtollError, match="ends after") as caught:
        read_head(packed[:cut])
    assert caught.value.kind.code == "cloudlet.source"


def test_a_key_in_the_file_or_of_another_maker_is_not_trusted():
    packed = header.write_head(b"b" * 32, ImageDescription((Part("disk", 1, b"r" * 32),)), [], KEY)
    other = SigningKey(ed25519.Ed25519PrivateKey.generate())
    for trusted in ([], [other.trusted]):
        with pytest.raises(AtollError) as caught:
            header.read_header(reader(packed).read, trusted, "overlay")
        assert caught.value.kind.code == "cloudlet.untrusted"
    assert header.read_header(reader(packed).read, [other.trusted, KEY.trusted], "overlay").segments == 0


def test_the_header_is_read_once_whichever_key_has_signed_it():
    packed = header.write_head(b"b" * 32, ImageDescription((Part("disk", 1, b"r" * 32),)), [], KEY)
    strangers = [SigningKey(ed25519.Ed25519PrivateKey.generate()).trusted for _ in range(2)]
    source = BytesIO(packed + b"more")
    found, signer = header.read_signed(source.read, [*strangers, KEY.trusted], "overlay")
    assert (found.segments, signer) == (0, 2)
    assert source.read() == b"more"


def test_signature_under_another_algorithm_is_not_accepted():
    packed = bytearray(header.write_head(b"b" * 32, ImageDescription((Part("disk", 1, b"r" * 32),)), [], KEY))
    for algorithm in (0, 2, 3):
        packed[10] = algorithm
        with pytest.raises(AtollError):
            read_head(bytes(packed))


@st.composite
def segments(draw):
    kinds = draw(st.lists(st.sampled_from([0, 1, 2, 16, 23, 32, 39]), min_size=1, max_size=30))
    pages = draw(st.lists(st.integers(0, 2**32 - 1), min_size=len(kinds), max_size=len(kinds), unique=True))
    copies = sum(kind >= 16 for kind in kinds)
    sources = draw(st.lists(st.integers(0, 2**32 - 1), min_size=copies, max_size=copies))
    content = b"".join(bytes([draw(st.integers(0, 255))]) * PAGE for kind in kinds if kind in {1, 2})
    arrays = np.array(kinds, np.uint8), np.array(sorted(pages), np.uint32), np.array(sources, np.uint32)
    return Segment(draw(st.integers(0, 7)), *arrays, as_pages(content))


@given(segments(), st.sampled_from([-5, 1, 3]))
def test_segment_round_trip(made, level):
    packed = segment.pack(made, level)
    assert segment.SHORTEST <= len(packed) <= segment.LONGEST
    found = segment.unpack(packed, "segment")
    assert found.part == made.part
    for name in ("kinds", "pages", "sources", "content"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name


@given(st.binary(max_size=600))
def test_any_bytes_as_a_segment(data):
    plain = struct.pack("<BBHIII", 0, 0, 0, len(data) // 5, 0, 0) + data[: len(data) // 5 * 5]
    for given_ in (data, plain):
        with suppress(AtollError):
            found = segment.unpack(given_, "segment")
            assert len(found.pages) == len(found.kinds)


@pytest.mark.parametrize("declared", [True, False], ids=["declared size", "undeclared size"])
def test_segment_that_would_fill_the_memory(declared):
    """A frame that declares or holds far more than the segment's header says."""
    frame = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(1 << 26))
    data = struct.pack("<BBHIII", 0, 1, 0, 1, 1, 0) + frame
    tracemalloc.start()
    try:
        with pytest.raises(AtollError, match="decompressed"):
            segment.unpack(data, "segment")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_head_that_would_fill_the_memory():
    """A signed header that promises the most segments does not allocate them before they arrive."""
    made = ImageDescription((Part("disk", 1, b"r" * 32),))
    promised = header.Header(b"b" * 32, made, header.MOST_SEGMENTS, header.MOST_SEGMENTS * segment.SHORTEST, b"r" * 32)
    signed = promised.pack(KEY.algorithm)
    packed = signed + KEY.sign(b"atoll cloudlet overlay 1\0" + signed)
    tracemalloc.start()
    try:
        with pytest.raises(AtollError, match="ends after"):
            read_head(packed)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True), st.data())
def test_one_segment_is_verified_alone(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, path = merkle.root(leaves), merkle.path(leaves, index)
    assert merkle.verify(root, len(leaves), index, leaves[index], path)
    other = data.draw(st.integers(0, len(leaves) - 1).filter(lambda found: found != index)) if len(leaves) > 1 else None
    if other is not None:
        assert not merkle.verify(root, len(leaves), index, leaves[other], path)
        assert not merkle.verify(root, len(leaves), other, leaves[index], path)
    assert not merkle.verify(root, len(leaves), index, leaves[index], [*path, b"x" * 32])
    assert not merkle.verify(root, len(leaves), len(leaves), leaves[index], path)
    if path:
        assert not merkle.verify(root, len(leaves), index, leaves[index], path[:-1])
        assert not merkle.verify(root, len(leaves), index, leaves[index], [b"x" * 32, *path[1:]])


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=9), st.lists(st.binary(min_size=1, max_size=3), max_size=9))
def test_different_leaves_have_different_roots(left, right):
    roots = [merkle.root([merkle.leaf(len(each), each * 8) for each in leaves]) for leaves in (left, right)]
    assert (roots[0] == roots[1]) == (left == right)


@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bit_anywhere_is_found(place, bit, request):
    overlay = bytearray(request.getfixturevalue("whole_overlay"))
    overlay[int(place * len(overlay))] ^= 1 << bit
    source = reader(bytes(overlay))
    with pytest.raises(AtollError):
        check_overlay(source, header.read_header(source.read, [KEY.trusted], source.name), quiet)


@pytest.fixture(scope="module")
def whole_overlay(tmp_path_factory):
    """Return an overlay in which heads and segments have similar lengths."""
    directory, seeded = tmp_path_factory.mktemp("whole"), random.Random(3)
    machine = Machine(directory, KEY, {"disk": b"base" * 5000})
    machine.guest(disk=b"base" * 5000 + seeded.randbytes(100) * 60, device=b"state")
    overlay = machine.overlay()
    source = reader(overlay)
    check_overlay(source, header.read_header(source.read, [KEY.trusted], source.name), quiet)
    return overlay


def test_more_bytes_after_the_overlay(whole_overlay):
    source = reader(whole_overlay + b"x")
    with pytest.raises(AtollError, match="more bytes"):
        check_overlay(source, header.read_header(source.read, [KEY.trusted], source.name), quiet)


@pytest.mark.parametrize("name", ["image", "state"])
def test_part_with_the_name_of_a_file_of_the_image(name):
    made = ImageDescription((Part(name, 1, b"r" * 32),))
    with pytest.raises(AtollError, match=f"a part is called {name}"):
        description.parse(made.pack(), 1, "made")


def test_model_that_is_not_text():
    with pytest.raises(AtollError, match="CPU model or machine type"):
        ImageDescription((Part("memory", 1, b"r" * 32),), "a\udcff").check("made")
