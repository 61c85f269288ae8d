"""Deleted records become tombstones, and tombstones end; nothing that was deleted comes back."""

from __future__ import annotations

import logging

import pytest
from documents import Clock, Site
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.mesh import document, stream, tombstones
from atoll.mesh.clock import COUNTER_BITS
from atoll.mesh.document import Behind, Change, Contradiction, Full, Refused
from atoll.mesh.entry import Stamped, covers, is_tombstone, settle, unite


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a new generation as soon as anything can be left out."""
    monkeypatch.setattr(tombstones, "MIN_WASTE", 0)
    monkeypatch.setattr(tombstones, "is_worthwhile", lambda waste, _weight: waste > tombstones.MIN_WASTE)


def entry_of(site: Site, key: str = "1", author: str = "") -> dict[str, Stamped] | None:
    return site.document.stream_set.entries(author or site.name).get(f"thing/{key}")


def tidy(*sites: Site, acknowledged: int | None = None) -> None:
    for site in sites:
        site.document.tidy(site.document.written if acknowledged is None else acknowledged)


def exchange(*sites: Site) -> None:
    for _ in range(2):
        for one in sites:
            for other in sites:
                try:
                    one.catch_up(other)
                except Behind as refusal:
                    one.document.merge(other.document.difference(one.document.state_without([refusal.author])))


def test_own_deletion_shrinks_the_entry_immediately() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True, text="x" * 100_000))
    before = paris.document.size()["bytes"]
    lyon.document.merge(paris.write("1", present=False))
    assert before > 100_000
    assert paris.document.size()["bytes"] < 300
    assert entry_of(paris) == entry_of(lyon, author="paris")
    assert is_tombstone(entry_of(paris) or {})
    assert lyon.view() == paris.view()


def test_a_reader_that_missed_the_deletion_takes_what_was_made_again() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    lyon.document.merge(paris.write("1", present=True, name="old", size=1))
    paris.write("1", present=False)
    paris.write("1", present=True, name="new")
    lyon.catch_up(paris)
    record = lyon.document.record("thing", "1")
    assert record is not None
    assert {name: value for name, value in record.fields.items() if name != "created"} == {"present": True, "name": "new"}
    assert lyon.view() == paris.view()


def test_another_sites_deletion_shrinks_the_entry_after_an_hour() -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    lyon.document.merge(paris.write("1", present=True, text="x" * 1000))
    paris.document.merge(lyon.write("1", present=False))
    tidy(paris)
    assert not is_tombstone(entry_of(paris) or {})
    clock.ms += tombstones.REDUCE_AFTER_MS + 1
    tidy(paris)
    assert is_tombstone(entry_of(paris) or {})
    exchange(paris, lyon)
    assert paris.view() == lyon.view()
    updates = len(paris.updates)
    tidy(paris, lyon)
    assert len(paris.updates) == updates


def test_records_deleted_by_a_revoked_site_come_back_whole() -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    lyon.document.merge(paris.write("1", present=True, name="a"))
    until = clock.ms << COUNTER_BITS
    paris.document.merge(lyon.write("1", present=False))
    clock.ms += tombstones.REDUCE_AFTER_MS // 2
    tidy(paris)
    paris.document.ignored("lyon", until)
    clock.ms += tombstones.REDUCE_AFTER_MS
    tidy(paris)
    record = paris.document.record("thing", "1")
    assert record is not None
    assert record.present
    assert record.fields["name"] == "a"


@pytest.mark.usefixtures("no_patience")
def test_a_tombstone_ends_when_all_have_it_and_it_is_a_day_old() -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    paris.write("2", present=True, name="kept")
    paris.write("1", present=True)
    paris.write("1", present=False)
    exchange(paris, lyon)
    tidy(paris)
    assert entry_of(paris), "a tombstone must stay for a day"
    clock.ms += tombstones.DROP_AFTER_MS + 1
    tidy(paris, acknowledged=paris.document.written - 1)
    assert entry_of(paris), "a tombstone must stay until all members have it"
    tidy(paris)
    assert entry_of(paris) is None
    assert paris.document.record("thing", "1") is None
    lyon.touched.clear()
    lyon.catch_up(paris)
    assert lyon.document.digest() == paris.document.digest()
    assert lyon.view() == paris.view()
    assert ("thing", "1") in lyon.touched[-1]
    for site in (paris, lyon):
        site.restart()
        assert {key for kind, key in site.view() if kind == "thing"} == {"2"}


@pytest.mark.usefixtures("no_patience")
def test_a_tombstone_stays_while_another_site_still_says_that_the_record_is_there() -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    lyon.document.merge(paris.write("1", present=True, name="a"))
    paris.document.merge(lyon.write("1", present=False))
    clock.ms += tombstones.DROP_AFTER_MS + 1
    tidy(lyon)
    assert entry_of(lyon)
    tidy(paris)
    exchange(paris, lyon)
    clock.ms += 1
    tidy(lyon)
    exchange(paris, lyon)
    tidy(paris)
    exchange(paris, lyon)
    assert entry_of(paris) is entry_of(lyon) is None
    assert paris.document.digest() == lyon.document.digest()


@pytest.mark.usefixtures("no_patience")
def test_a_site_that_was_away_for_generations_takes_what_there_is() -> None:
    clock = Clock()
    paris, lyon, nice = (Site(name, clock=clock) for name in ("paris", "lyon", "nice"))
    paris.write("old", present=True)
    exchange(paris, lyon, nice)
    for number in range(5):
        paris.write(str(number), present=True)
        paris.write(str(number), present=False)
        clock.ms += tombstones.DROP_AFTER_MS + 1
        tidy(paris)
    paris.write("new", present=True)
    nice.catch_up(paris)
    exchange(paris, lyon, nice)
    assert {key for kind, key in lyon.view() if kind == "thing"} == {"old", "new"}
    assert paris.view() == lyon.view() == nice.view()


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("wrote_after", [True, False])
def test_ended_tombstones_stay_away_when_a_site_returns_from_an_old_backup(wrote_after: bool) -> None:
    clock = Clock()
    paris, lyon = Site("paris", clock=clock), Site("lyon", clock=clock)
    paris.write("1", present=True)
    paris.write("kept", present=True)
    backup = paris.path.read_bytes(), paris.path.with_name("document.db-wal").read_bytes()
    paris.write("1", present=False)
    exchange(paris, lyon)
    clock.ms += tombstones.DROP_AFTER_MS + 1
    tidy(paris)
    paris.write("since", present=True)
    exchange(paris, lyon)
    paris.lose_disk()
    paris.store.close()
    paris.path.write_bytes(backup[0])
    paris.path.with_name("document.db-wal").write_bytes(backup[1])
    paris.open()
    assert {key for kind, key in paris.view() if kind == "thing"} == {"1", "kept"}
    clock.ms += 1000
    if wrote_after:
        paris.write("after", present=True)
    exchange(paris, lyon)
    exchange(paris, lyon)
    assert {key for kind, key in lyon.view() if kind == "thing"} == {"kept", "since"} | ({"after"} if wrote_after else set())
    assert paris.view() == lyon.view()


def test_leaving_out_without_naming_the_ancestor_is_taken_for_a_loss_of_memory() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    paris.write("1", present=True)
    paris.write("1", present=False)
    lyon.catch_up(paris)
    paris.lose_disk()
    paris.write("2", present=True)
    with pytest.raises(Contradiction):
        lyon.catch_up(paris)


@pytest.mark.parametrize(
    "fields", [{"ancestors": 1}, {"ancestors": [[1]]}, {"ancestors": [[1, -1]]}, {"ancestors": [[1, 1]] * 600}, {"x": 1}]
)
def test_ancestors_that_are_none(fields: dict[str, object]) -> None:
    with pytest.raises(Refused):
        Site("paris").write("paris", kind="stream", **fields)


def test_nobody_speaks_of_anothers_stream() -> None:
    with pytest.raises(Refused):
        Site("paris").write("lyon", kind="stream", ancestors=[])


# --- One bound


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """The greatest weight of a stream, made small."""
    for module in (stream, document):
        monkeypatch.setattr(module, "MAX_WEIGHT", 100_000)
    return 100_000


def fill(site: Site) -> int:
    """Write until the stream is full; return the number of records."""
    for number in range(10_000):
        try:
            site.write(str(number), present=True, text="x" * 1000)
        except Full:
            return number
    raise AssertionError("it is never full")


@pytest.mark.usefixtures("small")
def test_written_entries_can_be_read_again_and_are_accepted_by_others() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    number = fill(paris)
    assert 50 < number < 100
    lyon.catch_up(paris)
    assert lyon.view() == paris.view()
    for site in (paris, lyon):
        site.restart()
    assert len(paris.view()) == number
    assert lyon.view() == paris.view()


@pytest.mark.usefixtures("small")
def test_a_full_stream_takes_deletions_and_has_room_again() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    number = fill(paris)
    for key in range(number // 2):
        paris.write(str(key), present=False)
    paris.write("more", present=True, text="x" * 1000)
    lyon.catch_up(paris)
    assert lyon.view() == paris.view()


@pytest.mark.usefixtures("small")
def test_a_member_that_writes_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    paris, lyon = Site("paris"), Site("lyon")
    fill(paris)
    with monkeypatch.context() as patch:
        patch.setattr(document, "MAX_WEIGHT", 1_000_000)
        paris.write("more", present=True, text="x" * 10_000)
    with pytest.raises(Full):
        lyon.catch_up(paris)
    assert lyon.view() == {}


def test_overwriting_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "MIN_WASTE", 10_000)
    paris, lyon = Site("paris"), Site("lyon")
    sizes = []
    for number in range(3000):
        paris.write(str(number % 10), present=True, number=number)
        if number % 100 == 0:
            lyon.catch_up(paris)
            sizes.append(paris.document.size()["bytes"])
    assert max(sizes) < 12_000
    lyon.catch_up(paris)
    assert lyon.view() == paris.view()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300), st.integers(1, 4)), max_size=60),
)
def test_a_stream_is_never_larger_than_it_weighs(writes: list[tuple[int, int, int]]) -> None:
    paris = Site("paris")
    for key, size, repeat in writes:
        for _ in range(repeat):
            paris.write(f"{key:032x}", present=size > 20, text="é" * size)
    if writes:
        own = paris.document._streams["paris"]
        assert len(own.part().pack()) <= own.weight + 300
    paris.store.close()


# --- The algebra

FIELDS = st.dictionaries(st.sampled_from(["a", "b", "created"]), st.builds(Stamped, st.integers(0, 9), st.integers(0, 3)))
ENTRIES = (
    st.builds(lambda fields, present: {**fields, "present": present}, FIELDS, st.builds(Stamped, st.integers(0, 9), st.booleans())) | FIELDS
)


@given(ENTRIES)
def test_settling_twice_is_settling_once_and_is_covered(entry: dict[str, Stamped]) -> None:
    once = settle(entry)
    assert settle(once) == once
    assert covers(once, entry)


@given(ENTRIES, ENTRIES)
def test_uniting_covers_both(one: dict[str, Stamped], other: dict[str, Stamped]) -> None:
    other = {field: Stamped(item.stamp * 2 + 1, item.value) for field, item in other.items()}
    one = {field: Stamped(item.stamp * 2, item.value) for field, item in one.items()}
    united = unite(one, other)
    assert covers(united, one)
    assert covers(united, other)
    assert unite(other, one) == united


def test_a_write_that_is_too_much_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    paris = Site("paris")
    with caplog.at_level(logging.ERROR), pytest.raises(Refused) as refusal:
        paris.document.write([Change("thing", "1", {"text": "x" * 300_000})])
    assert "\n" not in refusal.value.reason
