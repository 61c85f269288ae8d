import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.entry import Fields, Stamped, entry_name, read_entry, write_entry
from atoll.mesh.record import fold
from atoll.mesh.refusals import Refused

ENTRIES = st.dictionaries(
    st.sampled_from(["paris", "lyon", "nice"]),
    st.dictionaries(st.sampled_from("abc"), st.builds(Stamped, st.integers(0, 3), st.integers(0, 9)), min_size=1),
)


@given(ENTRIES)
def test_the_order_of_entries_makes_no_difference(entries: dict[str, Fields]) -> None:
    folds = [fold("thing", "1", order, {}) for order in itertools.permutations(entries.items())]
    assert all(other == folds[0] for other in folds)


@given(ENTRIES)
def test_a_field_has_the_value_of_the_greatest_stamp_and_then_of_the_greatest_name(entries: dict[str, Fields]) -> None:
    record = fold("thing", "1", entries.items(), {})
    for name in "abc":
        candidates = [(fields[name].stamp, author, fields[name].value) for author, fields in entries.items() if name in fields]
        if candidates:
            assert record is not None
            assert (record.stamps[name], record.authors[name], record.fields[name]) == max(candidates)
        else:
            assert record is None or name not in record.fields


def test_entries_of_an_ignored_author_after_the_stamp_are_ignored() -> None:
    entries = [("paris", {"a": Stamped(5, "old"), "b": Stamped(9, "late")}), ("lyon", {"b": Stamped(2, "lyon's")})]
    record = fold("thing", "1", entries, {"paris": 5})
    assert record is not None
    assert record.fields == {"a": "old", "b": "lyon's"}
    assert fold("thing", "1", [("paris", {"a": Stamped(6, "late")})], {"paris": 5}) is None


def test_properties_of_a_record() -> None:
    record = fold("thing", "1", [("paris", {"present": Stamped(5, True), "created": Stamped(5, 5)}), ("lyon", {"b": Stamped(7, 1)})], {})
    assert record is not None
    assert (record.present, record.created, record.version) == (True, 5, (7, "lyon"))


@pytest.mark.parametrize(("kind", "key"), [("", "1"), ("Thing", "1"), ("a/b", "1"), ("thing", ""), ("thing", "a\nb"), ("thing", "x" * 513)])
def test_kinds_and_keys_have_a_form(kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        entry_name(kind, key)


def test_an_entry_is_read_as_it_was_written() -> None:
    fields = {"name": Stamped(3, "Zoé"), "list": Stamped(4, [1, None, {"a": 1.5}])}
    assert read_entry("thing/a/b", write_entry(fields), 4) == fields


HOSTILE = [
    None,
    7,
    "",
    "{",
    "[]",
    "{}",
    '"text"',
    '{"a": 1}',
    '{"a": [1]}',
    '{"a": [1, 2, 3]}',
    '{"a": ["1", 2]}',
    '{"a": [true, 2]}',
    '{"a": [1.5, 2]}',
    '{"a": [-1, 2]}',
    '{"a": [11, 2]}',
    '{"": [1, 2]}',
    '{"a\\u0000": [1, 2]}',
    '{"a": [1, NaN]}',
    '{"a": [1, ' + "[" * 100_000,
    '{"a": [1, "' + "x" * 300_000 + '"]}',
    "{" + ",".join(f'"f{number}": [1, 2]' for number in range(300)) + "}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_that_is_not_an_entry_is_refused(text: object) -> None:
    with pytest.raises(Refused):
        read_entry("thing/1", text, 10)


@pytest.mark.parametrize("name", ["thing", "/1", "thing/", "../1", "THING/1", "thing/\x00"])
def test_a_name_of_no_form_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        read_entry(name, '{"a": [1, 2]}', 10)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        assert read_entry("thing/1", text, 10)
