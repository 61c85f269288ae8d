"""Updates of a hostile member: whatever it sends changes nothing, and genuine entries can still be had afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import msgpack
import pytest
from documents import START_MS, Site, key_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Doc, Map

from atoll.mesh.clock import COUNTER_BITS, MAX_AHEAD_MS
from atoll.mesh.document import Behind, Contradiction, Refused, UnknownAuthor
from atoll.mesh.entry import Stamped, read_entry, write_entry
from atoll.mesh.parts import Part, pack_parts, unpack_parts
from atoll.mesh.signing import Signer
from atoll.mesh.stream import Stream

STAMP = START_MS << COUNTER_BITS


def assert_refused(victim: Site, update: bytes, kind: type[Refused] = Refused, match: str | None = None) -> None:
    """Check that an update is refused, and that it changes nothing in memory and on disk."""
    before = victim.document.digest(), victim.document.state_vector(), victim.view()
    changes = len(victim.touched)
    with pytest.raises(kind, match=match):
        victim.document.merge(update)
    assert (victim.document.digest(), victim.document.state_vector(), victim.view()) == before
    assert len(victim.touched) == changes
    victim.restart()
    assert (victim.document.digest(), victim.document.state_vector(), victim.view()) == before


def forge(author: str, texts: Mapping[str, str], *, signer: str | None = None, stamp: int = STAMP, generation: int = STAMP) -> bytes:
    """Return a whole stream of `author` that obeys no rules, signed with the key of `signer`."""
    part = Stream(author).write(texts, {}, generation=generation, stamp=stamp, signer=Signer(key_of(signer or author)[0]))
    return pack_parts([part])


def only(update: bytes) -> Part:
    (part,) = unpack_parts(update)
    return part


def entry(stamp: int = STAMP, value: object = 1) -> str:
    return write_entry({"present": Stamped(stamp, True), "value": Stamped(stamp, value)})


@pytest.fixture
def paris() -> Site:
    site = Site("paris")
    site.write("1", present=True, name="a")
    return site


@pytest.fixture
def lyon(paris: Site) -> Site:
    """The victim, which has the entries of paris."""
    site = Site("lyon")
    site.catch_up(paris)
    site.write("2", present=True)
    return site


GARBAGE = [
    b"",
    b"\xff" * 100,
    msgpack.packb(7),
    msgpack.packb([7]),
    msgpack.packb([b"x"]),
    msgpack.packb([msgpack.packb(["paris", 0, b"", []])]),
    msgpack.packb([msgpack.packb(["paris", 0, b"", [1, 2, 3, b"", "not bytes"]])]),
    msgpack.packb([msgpack.packb(["paris", 5, b"", [1, 2, 3, b"", b""]])]),
    msgpack.packb([msgpack.packb(["paris", -1, b"", [1, 2, 3, b"", b""]])]),
    msgpack.packb([msgpack.packb(["paris", True, b"", [1, 2, 3, b"", b""]])]),
]


@pytest.mark.parametrize("update", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(lyon: Site, update: bytes) -> None:
    assert_refused(lyon, update)


@pytest.mark.parametrize("vector", [b"", b"\x00", msgpack.packb([]), msgpack.packb({"a": 1}), msgpack.packb({"a": [1, -1, b""]})])
def test_bytes_that_are_not_a_state_vector(lyon: Site, vector: bytes) -> None:
    with pytest.raises(Refused):
        lyon.document.difference(vector)


def test_a_stranger(lyon: Site) -> None:
    assert_refused(lyon, forge("stranger", {"thing/1": entry()}), UnknownAuthor)


def test_anothers_name_with_ones_own_key(lyon: Site) -> None:
    later = STAMP << 1
    for author in ("paris", "lyon"):
        assert_refused(lyon, forge(author, {"thing/9": entry()}, signer="nice", generation=later, stamp=later), match="signature")


def test_entries_that_the_author_did_not_write(paris: Site, lyon: Site) -> None:
    true, forged = only(paris.write("2", name="b")), only(forge("paris", {"thing/2": entry(), "thing/9": entry()}))
    assert_refused(lyon, pack_parts([true._replace(base=0, update=forged.update)]), match="signed")


def test_leaving_out_what_the_author_wrote(paris: Site) -> None:
    paris.write("2", present=True)
    paris.write("3", present=True)
    head = only(paris.document.difference(Site("x").document.state_vector())).head
    doc: Doc[Map[str]] = Doc(client_id=1)
    entries = doc.get("entries", type=Map)
    for number in range(head.writes):  # the same number of writes, but of one entry only
        entries["thing/1"] = entry(value=number)
    assert_refused(Site("lyon"), pack_parts([Part("paris", 0, doc.get_update(), head)]))


def test_a_known_part_changes_nothing(paris: Site, lyon: Site) -> None:
    old = paris.updates[0]
    lyon.document.merge(paris.write("1", name="b"))
    view, changes = lyon.view(), len(lyon.touched)
    lyon.document.merge(old)
    assert (lyon.view(), len(lyon.touched)) == (view, changes)


def test_ones_own_old_word_changes_nothing(paris: Site, lyon: Site) -> None:
    old = lyon.document.part("paris")
    assert old is not None
    paris.write("1", name="b")
    before = paris.document.digest(), paris.view(), len(paris.updates), len(paris.touched)
    paris.document.merge(pack_parts([old]))
    assert (paris.document.digest(), paris.view(), len(paris.updates), len(paris.touched)) == before


def test_an_author_that_removes_an_entry(lyon: Site) -> None:
    """The signature covers the entry, which is removed from the map: without a check its presence would depend on the way that it came."""
    signer = Signer(key_of("nice")[0])
    stream = Stream("nice")
    lyon.document.merge(pack_parts([stream.write({"thing/9": entry()}, {}, generation=STAMP, stamp=STAMP, signer=signer)]))
    before = stream._doc.get_state()
    del stream._map["thing/9"]
    head = stream.write({"thing/8": entry()}, {}, generation=STAMP, stamp=STAMP, signer=signer).head
    assert_refused(lyon, pack_parts([Part("nice", 1, stream._doc.get_update(before), head)]))


def test_a_removal_is_noticed_before_anything_is_counted() -> None:
    stream = Stream("nice")
    stream.write({"thing/9": entry()}, {}, generation=STAMP, stamp=STAMP, signer=Signer(key_of("nice")[0]))
    before = stream._doc.get_state()
    copy = Stream("nice")
    copy.apply(stream.part().update, 1)
    del stream._map["thing/9"]
    with pytest.raises(Refused, match="removes"):
        copy.apply(stream._doc.get_update(before), 1)


@pytest.mark.parametrize("again", [{"thing/8": entry()}, {"thing/9": entry(STAMP - 1)}, {"thing/9": entry(value=2)}])
def test_an_author_that_takes_back_what_it_said(lyon: Site, again: dict[str, str]) -> None:
    lyon.document.merge(forge("nice", {"thing/9": entry()}))
    assert_refused(lyon, forge("nice", again, generation=STAMP + 1, stamp=STAMP + 2), Contradiction)


def test_stamps_that_go_back_in_an_update(lyon: Site) -> None:
    signer = Signer(key_of("nice")[0])
    stream = Stream("nice")
    lyon.document.merge(pack_parts([stream.write({"thing/9": entry()}, {}, generation=STAMP, stamp=STAMP, signer=signer)]))
    update = pack_parts([stream.write({"thing/9": entry(STAMP - 1)}, {}, generation=STAMP, stamp=STAMP, signer=signer)])
    assert_refused(lyon, update, Contradiction)


def test_stamps_of_the_far_future(lyon: Site) -> None:
    future = (START_MS + 2 * MAX_AHEAD_MS) << COUNTER_BITS
    assert_refused(lyon, forge("nice", {"thing/9": entry()}, stamp=future), match="clock")
    assert_refused(lyon, forge("nice", {"thing/9": entry(future)}), match="stamp")


def test_an_entry_against_the_rule_of_its_kind(lyon: Site) -> None:
    def rule(author: str, key: str, _: object) -> None:
        if author != key:
            raise Refused("only its own card")

    lyon.rules = {"member": rule}
    lyon.restart()
    assert_refused(lyon, forge("nice", {"thing/1": entry(), "member/paris": entry()}), match="own card")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": [-1, 1]}', '{"a": [1, "' + "x" * 300_000 + '"]}'])
def test_entries_that_are_none(lyon: Site, text: str) -> None:
    assert_refused(lyon, forge("nice", {"thing/9": entry(), "thing/8": text}))


@pytest.mark.parametrize("name", ["", "thing", "thing/", "/", "../../etc/passwd", "THING/1", "thing/\x00"])
def test_names_that_are_none(lyon: Site, name: str) -> None:
    assert_refused(lyon, forge("nice", {name: entry()}))


def test_an_entry_that_is_not_text(lyon: Site) -> None:
    doc: Doc[Map[object]] = Doc(client_id=1)
    doc.get("entries", type=Map)["thing/9"] = Map({"a": 1})
    part = only(forge("nice", {"thing/9": entry()}))
    assert_refused(lyon, pack_parts([part._replace(update=doc.get_update())]))


def test_other_clients_and_other_roots(lyon: Site) -> None:
    part = only(forge("nice", {"thing/9": entry()}))
    for client, root in ((7, "entries"), (1, "others")):
        doc: Doc[Map[str]] = Doc(client_id=client)
        doc.get(root, type=Map)["thing/9"] = entry()
        assert_refused(lyon, pack_parts([part._replace(update=doc.get_update())]))


def test_a_library_that_panics(lyon: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):  # like that of PyO3
        pass

    def panic(*_: object) -> None:
        raise PanicException("index out of bounds")

    update = forge("nice", {"thing/9": entry()})
    with monkeypatch.context() as patch:
        patch.setattr(Doc, "apply_update", panic)
        with pytest.raises(Refused, match="index out of bounds"):
            lyon.document.merge(update)
    lyon.document.merge(update)
    assert lyon.document.record("thing", "9") is not None


def test_a_hole_is_not_forgotten_and_spoils_nothing(paris: Site, lyon: Site) -> None:
    first, second = paris.write("1", name="b"), paris.write("1", name="c")
    assert_refused(lyon, second, Behind)
    lyon.document.merge(first)
    lyon.document.merge(second)
    assert lyon.document.record("thing", "1") == paris.document.record("thing", "1")


def test_a_hole_that_is_said_to_be_none(paris: Site, lyon: Site) -> None:
    paris.write("1", name="b")
    second = only(paris.write("1", name="c"))
    assert_refused(lyon, pack_parts([second._replace(base=1)]), Behind)
    lyon.catch_up(paris)
    assert lyon.document.record("thing", "1") == paris.document.record("thing", "1")


def test_deletion_hidden_in_a_genuine_update_can_be_undone(paris: Site, lyon: Site) -> None:
    """A deletion of paris's next write rides on its present one: yrs keeps it until that write arrives."""
    part = only(paris.write("1", name="b"))
    assert part.update.endswith(b"\x01\x01\x01\x00\x01")  # deleted: of 1 client, number 1, in 1 range: from 0, 1 long
    hidden = part.update[:-3] + b"\x02\x00\x01\x02\x01"
    lyon.document.merge(pack_parts([part._replace(update=hidden)]))
    following = paris.write("9", present=True)
    with pytest.raises(Behind) as refusal:
        lyon.document.merge(following)
    assert refusal.value.wholly
    lyon.document.merge(paris.document.difference(lyon.document.state_without(["paris"])))
    lyon.document.merge(paris.write("10", present=True))
    lyon_sees = {key for (_, key) in lyon.view()}
    assert {"9", "10"} <= lyon_sees


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bytes_changed_on_the_way_give_the_truth_or_nothing(data: st.DataObject) -> None:
    before, after = ALTERED
    update = bytearray(after)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(update) - 1))
        match data.draw(st.sampled_from(["change", "insert", "remove"])):
            case "change":
                update[position] = data.draw(st.integers(0, 255))
            case "insert":
                update.insert(position, data.draw(st.integers(0, 255)))
            case _:
                del update[position]
    VICTIM.lose_disk()
    VICTIM.document.merge(before)
    old = VICTIM.view()
    try:
        VICTIM.document.merge(bytes(update))
    except Refused:
        assert VICTIM.view() == old
    else:
        assert VICTIM.view() in (old, WRITER.view())


def test_a_part_that_is_refused_does_not_hold_up_another(paris: Site, lyon: Site) -> None:
    good, bad = only(paris.write("1", name="b")), only(forge("nice", {"thing/9": ""}))
    with pytest.raises(Refused):
        lyon.document.merge(pack_parts([bad, good]))
    record = lyon.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "b"


def test_the_forger_can_do_what_is_right() -> None:
    """The forger itself works: the other forgeries are refused for their faults, not because every forgery is."""
    victim = Site("lyon")
    victim.document.merge(forge("nice", {"thing/9": entry()}))
    assert victim.document.record("thing", "9") is not None
    assert read_entry("thing/9", entry(), STAMP)


WRITER, VICTIM = Site("paris"), Site("lyon")
ALTERED = (WRITER.write("1", present=True, name="a"), WRITER.write("1", name="b", other="c"))
