import logging
import sqlite3

import pytest
from documents import START_MS, Clock, Site
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.mesh.clock import COUNTER_BITS
from atoll.mesh.document import Change, Refused
from atoll.mesh.store import Store


def test_a_record_is_read_as_it_was_written() -> None:
    paris = Site("paris")
    paris.write("1", present=True, name="a", extra={"deep": [1, None]})
    record = paris.document.record("thing", "1")
    assert record is not None
    assert record.present
    assert record.fields["name"] == "a"
    assert record.fields["extra"] == {"deep": [1, None]}
    assert record.created == record.stamps["name"] == (START_MS + 1) << COUNTER_BITS
    assert set(record.authors.values()) == {"paris"}
    assert paris.document.kinds() == {"thing"}
    assert paris.document.record("thing", "2") is None
    assert paris.document.record("other", "1") is None


def test_only_the_fields_that_are_named_change() -> None:
    paris = Site("paris")
    paris.write("1", present=True, name="a", size=1)
    before = paris.document.record("thing", "1")
    paris.write("1", name="b")
    after = paris.document.record("thing", "1")
    assert before is not None
    assert after is not None
    assert after.fields == before.fields | {"name": "b"}
    assert after.stamps["size"] == before.stamps["size"]
    assert after.version > before.version
    assert after.created == before.created


def test_changes_of_one_record_in_one_call_apply_in_their_order() -> None:
    paris = Site("paris")
    paris.document.write([Change("thing", "1", {"a": 1, "b": 1}), Change("thing", "1", {"a": 2})])
    record = paris.document.record("thing", "1")
    assert record is not None
    assert record.fields == {"a": 2, "b": 1}


def test_a_deleted_record_is_listed_only_if_asked_for_and_may_come_back() -> None:
    paris = Site("paris")
    paris.write("1", present=True)
    first = paris.document.record("thing", "1")
    paris.write("1", present=False)
    assert list(paris.document.records("thing")) == []
    assert [record.key for record in paris.document.records("thing", deleted=True)] == ["1"]
    paris.write("1", present=True)
    again = paris.document.record("thing", "1")
    assert first is not None
    assert again is not None
    assert again.present
    assert again.created > first.created


def test_a_change_of_the_past_does_not_override_what_is_newer() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    paris.write("1", present=True, name="new")
    lyon.document.write([Change("thing", "1", {"present": True, "name": "old", "extra": 1}, stamp=0)])
    paris.catch_up(lyon)
    record = paris.document.record("thing", "1")
    assert record is not None
    assert (record.fields["name"], record.fields["extra"]) == ("new", 1)
    paris.document.write([Change("thing", "1", {"name": "older"}, stamp=5)])
    record = paris.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "new"


def test_readers_and_other_sites_are_told_of_a_write() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True))
    assert paris.touched == lyon.touched == [{("thing", "1")}]
    assert lyon.view() == paris.view()
    assert lyon.document.digest() == paris.document.digest()
    assert lyon.updates == []
    lyon.document.merge(paris.updates[0])
    assert len(lyon.touched) == 1


def test_a_write_of_nothing_tells_nobody() -> None:
    paris = Site("paris")
    digest = paris.document.digest()
    paris.document.write([])
    paris.document.write([Change("thing", "1", {})])
    assert (paris.updates, paris.touched, paris.document.digest()) == ([], [], digest)


def test_a_reader_that_fails_does_not_keep_the_others_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    paris = Site("paris")
    changes: list[object] = []
    paris.document.on_change(lambda _: 1 / 0)
    paris.document.on_change(changes.append)
    with caplog.at_level(logging.ERROR):
        paris.write("1", present=True)
    assert changes
    assert "ZeroDivisionError" in caplog.text


def test_invalid_values_are_not_written() -> None:
    paris = Site("paris")
    paris.write("1", present=True)
    digest, view = paris.document.digest(), paris.view()
    bad = [
        Change("Thing", "1", {"a": 1}),
        Change("thing", "1\n", {"a": 1}),
        Change("thing", "1", {"a": object()}),
        Change("thing", "1", {"a": "x" * 300_000}),
    ]
    for change in bad:
        with pytest.raises((ValueError, TypeError, Refused)):
            paris.document.write([Change("thing", "2", {"a": 1}), change])
    assert (paris.document.digest(), paris.view(), len(paris.updates)) == (digest, view, 1)
    paris.restart()
    assert (paris.document.digest(), paris.view()) == (digest, view)


def test_a_write_that_others_would_refuse_is_refused() -> None:
    def rule(author: str, key: str, fields: object) -> None:
        raise Refused(f"{author} may not write {key}")

    paris = Site("paris", rules={"member": rule})
    with pytest.raises(Refused, match="paris may not write lyon"):
        paris.write("lyon", kind="member", present=True)
    assert paris.updates == []


def test_the_later_of_two_writes_wins_and_each_keeps_its_own_fields() -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    paris.write("1", present=True, name="paris's", a=1)
    lyon.write("1", present=True, name="lyon's", b=2)
    paris.catch_up(lyon)
    lyon.catch_up(paris)
    assert paris.view() == lyon.view()
    record = paris.document.record("thing", "1")
    assert record is not None
    assert (record.fields["name"], record.fields["a"], record.fields["b"]) == ("lyon's", 1, 2)


def test_a_site_whose_clock_is_an_hour_late_can_change_what_it_has_seen() -> None:
    paris, lyon = Site("paris", clock=Clock(START_MS + 3_600_000)), Site("lyon")
    lyon.document.merge(paris.write("1", present=True, name="a"))
    paris.document.merge(lyon.write("1", name="b"))
    record = paris.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "b"


def test_the_difference_is_what_is_lacking() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    for number in range(100):
        paris.write(str(number), present=True)
    lyon.catch_up(paris)
    everything = len(paris.document.difference(Site("nice").document.state_vector()))
    paris.write("0", name="b")
    difference = paris.document.difference(lyon.document.state_vector())
    assert len(difference) < everything / 10
    lyon.document.merge(difference)
    assert lyon.view() == paris.view()


def test_relayed_entries_are_accepted_like_those_of_their_author() -> None:
    paris, lyon, nice = Site("paris"), Site("lyon"), Site("nice")
    paris.write("1", present=True)
    lyon.catch_up(paris)
    nice.catch_up(lyon)
    assert nice.view() == paris.view()
    assert nice.document.digest() == paris.document.digest()


def test_a_restart_changes_nothing_and_the_state_vector_does_not_grow() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.write("2", present=True)
    paris.write("1", present=True)
    paris.catch_up(lyon)
    lyon.catch_up(paris)
    for number in range(3):
        digest, view, size = paris.document.digest(), paris.view(), len(paris.document.state_vector())
        paris.restart()
        assert (paris.document.digest(), paris.view(), len(paris.document.state_vector())) == (digest, view, size)
        lyon.document.merge(paris.write("1", number=number))
    assert paris.view() == lyon.view()


def test_after_a_restart_a_site_writes_later_than_all_it_had_seen() -> None:
    lyon = Site("lyon", clock=Clock(START_MS + 3_600_000))
    paris = Site("paris")
    paris.document.merge(lyon.write("1", present=True, name="a"))
    paris.restart()
    lyon.document.merge(paris.write("1", name="b"))
    record = lyon.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "b"


def test_a_machine_that_forgot_the_date_over_a_restart_goes_on() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    paris.document.merge(lyon.write("1", present=True, name="a"))
    paris.clock.ms = 0
    paris.restart()
    paris.document.merge(lyon.write("1", name="b"))
    lyon.document.merge(paris.write("1", name="c"))
    record = lyon.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "c"


def test_later_entries_of_a_revoked_author_are_ignored() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True, name="before"))
    after = paris.clock.ms << COUNTER_BITS
    lyon.document.merge(paris.write("1", extra="late"))
    lyon.document.ignored("paris", after)
    record = lyon.document.record("thing", "1")
    assert record is not None
    assert record.fields["name"] == "before"
    assert "extra" not in record.fields
    assert lyon.touched[-1] == {("thing", "1")}
    changes = len(lyon.touched)
    lyon.document.ignored("paris", after)
    assert len(lyon.touched) == changes


def test_adopted_entries_of_a_revoked_site_outlive_their_overwriting() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True, name="before"))
    lyon.document.merge(paris.write("2", present=True, name="late"))
    until = (paris.clock.ms - 1) << COUNTER_BITS
    before = lyon.document.record("thing", "1")
    lyon.document.adopt("paris", until)
    lyon.document.ignored("paris", until)
    lyon.document.merge(paris.write("1", present=False, name="overwritten"))
    record = lyon.document.record("thing", "1")
    assert before is not None
    assert record is not None
    assert (record.fields, record.stamps) == (before.fields, before.stamps)
    assert [record.key for record in lyon.document.records("thing")] == ["1"]


def test_adopting_leaves_out_what_only_the_revoked_site_may_say() -> None:
    def own(author: str, key: str, _: object) -> None:
        if author != key:
            raise Refused("not its own")

    paris, lyon = Site("paris", rules={"member": own}), Site("lyon", rules={"member": own})
    lyon.document.merge(paris.write("paris", kind="member", present=True))
    lyon.document.merge(paris.write("1", present=True))
    lyon.document.adopt("paris", paris.clock.ms << COUNTER_BITS)
    assert {(kind, key) for kind, key in lyon.touched[-1]} == {("thing", "1")}


def test_a_disk_that_takes_nothing_fails_the_write_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True))
    update = lyon.write("2", present=True)
    digest, view, changes = paris.document.digest(), paris.view(), len(paris.touched)

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", full)
        with pytest.raises(sqlite3.OperationalError):
            paris.write("1", name="b")
        with pytest.raises(sqlite3.OperationalError):
            paris.document.merge(update)
    assert (paris.document.digest(), paris.view(), len(paris.touched), len(paris.updates)) == (digest, view, changes, 1)
    lyon.document.merge(paris.write("1", name="c"))
    paris.document.merge(update)
    assert paris.view() == lyon.view()


def test_the_store_is_compacted_while_a_record_is_written_again_and_again() -> None:
    paris = Site("paris")
    for number in range(300):
        paris.write("1", present=True, text=f"{number}" + "x" * 5_000)
    rows = len(list(paris.store.parts("paris")))
    assert rows < 100
    view = paris.view()
    paris.restart()
    assert paris.view() == view


def test_its_size_is_told() -> None:
    paris = Site("paris")
    paris.write("1", present=True)
    size = paris.document.size()
    assert (size["authors"], size["entries"]) == (1, 1)
    assert 0 < size["bytes"] < 500


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_digests_are_equal_only_once_all_was_merged(order: list[int]) -> None:
    paris, lyon = Site("paris"), Site("lyon")
    updates = [paris.write("1", number=number) for number in range(4)]
    seen = set()
    for number in order:
        try:
            lyon.document.merge(updates[number])
        except Refused:
            continue
        seen.add(number)
        assert (lyon.document.digest() == paris.document.digest()) == (len(seen) == 4)
    lyon.catch_up(paris)
    assert lyon.document.digest() == paris.document.digest()
