"""The store: bounded, shared by processes, never in the way."""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.trace import room, store
from atoll.trace.store import Span

HEX = "0123456789abcdef"
SPANS = st.builds(
    Span,
    trace=st.text(HEX, min_size=32, max_size=32),
    span=st.text(HEX, min_size=16, max_size=16),
    parent=st.text(HEX, min_size=16, max_size=16) | st.just(""),
    kind=st.sampled_from(("server", "client", "internal")),
    name=st.text(st.characters(codec="utf-8"), max_size=20),
    service=st.text("abc", max_size=5),
    site=st.text("abc", max_size=5),
    start=st.integers(0, 2**62),
    end=st.integers(0, 2**62),
    error=st.none() | st.text(st.characters(codec="utf-8"), max_size=9),
    request=st.none() | st.integers(0, 2**40),
    response=st.none() | st.integers(0, 2**40),
    attributes=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=9), st.integers() | st.text(st.characters(codec="utf-8")) | st.booleans(), max_size=3
    ),
)


def span(number: int, trace: int | None = None, size: int = 0) -> Span:
    return Span(
        f"{trace or number:032x}",
        f"{number:016x}",
        "",
        "server",
        "GET /",
        "nova",
        "paris",
        number,
        number + 5,
        None,
        1,
        2,
        {"x": "y" * size},
    )


@given(st.lists(SPANS, max_size=20, unique_by=lambda each: each.span))
def test_what_is_written_is_read(tmp_path_factory, spans):
    path = tmp_path_factory.mktemp("store") / "spans.db"
    writer = store.Writer(path, 10_000_000)
    writer.write(spans)
    found = store.summaries(path, 100)
    assert {each.trace for each in found} == {each.trace for each in spans}
    assert sum(each.spans for each in found) == len(spans)
    read = store.spans(path, [each.trace for each in found])
    assert sorted(read, key=lambda each: each.span) == sorted(spans, key=lambda each: each.span)
    writer.close()


def test_the_store_keeps_its_size_and_the_latest_traces(tmp_path):
    path = tmp_path / "spans.db"
    writer = store.Writer(path, 1_000_000)
    for number in range(1, 4001, 100):
        writer.write([span(number + each, trace=1 + (number + each) // 10, size=1000) for each in range(100)])
    assert path.stat().st_size <= 1_000_000
    assert path.with_name("spans.db-wal").stat().st_size <= 8 << 20
    found = store.summaries(path, 10_000)
    assert found[0].start >= 3990, "the latest is there"
    assert 20 < len(found) < 300, "the oldest made room, and not all of them"
    whole = [each for each in found[1:-1] if each.spans == 10]
    assert len(whole) == len(found) - 2, "traces are deleted whole"
    writer.close()


@given(
    st.lists(st.tuples(st.sampled_from((None, "", "ann", "bob", "eve")), st.integers(1, 40)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_who_records_little_loses_nothing(sizes, random):
    """Each of n clients keeps its traces while they have less than an n-th of the store, whatever the others do."""
    held = [room.Held(number.to_bytes(16), client, spans, 0) for number, (client, spans) in enumerate(sizes)]
    held = [each._replace(latest=number) for number, each in enumerate(random.sample(held, len(held)))]
    total = sum(each.spans for each in held)
    most = max(1, total // room.PART)
    chosen = room.victims(held)
    lost = {each.trace: each.spans - chosen.get(each.trace, each.spans) for each in held}
    assert total // room.PART <= sum(lost.values()), "there is room"
    clients = {each.client for each in held}
    for client in clients:
        own = [each for each in held if each.client == client]
        if sum(each.spans for each in own) * len(clients) * room.PART <= total * (room.PART - 1):
            assert all(lost[each.trace] == max(0, each.spans - most) for each in own), "less than its share"
        deleted = [each.latest for each in own if chosen.get(each.trace) == 0]
        kept = [each.latest for each in own if chosen.get(each.trace) != 0]
        assert not deleted or not kept or max(deleted) < min(kept), "the oldest first"
    assert all(lost[each.trace] in {0, each.spans, each.spans - most} for each in held), "whole, unless it is too long"


def of(client, *spans):
    return [each._replace(attributes=each.attributes | ({} if client is None else {store.ASKED_BY: client})) for each in spans]


def test_a_flood_of_one_client_leaves_the_traces_of_others(tmp_path):
    path = tmp_path / "spans.db"
    writer = store.Writer(path, 1_000_000)
    for number in range(1, 21):
        writer.write(of("ann", span(number, size=1000)) + of(None, span(100 + number, size=1000)))
    for number in range(1000, 9000, 100):
        writer.write(of("eve", *(span(number + each, size=1000) for each in range(100))))
    kept = {int(each.trace, 16) for each in store.summaries(path, 10_000)}
    assert kept >= {*range(1, 21), *range(101, 121)}
    assert 8999 in kept, "also the flood's latest"
    assert 1000 not in kept
    writer.close()


def test_a_trace_that_grows_is_shortened_and_keeps_its_beginning(tmp_path):
    path = tmp_path / "spans.db"
    writer = store.Writer(path, 1_000_000)
    writer.write([span(number, size=1000) for number in range(1, 21)])
    for number in range(1000, 9000, 100):
        writer.write([span(number + each, trace=999, size=1000) for each in range(100)])
    found = {int(each.trace, 16): each for each in store.summaries(path, 10_000)}
    assert found[999].start == 1000, "its first span, below which the others are"
    assert set(found) >= set(range(1, 21))
    assert path.stat().st_size <= 1_000_000
    writer.close()


def test_a_store_of_the_earlier_version_is_read_and_then_begun_anew(tmp_path):
    path = tmp_path / "spans.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        old = store._SCHEMA.replace(", client TEXT", "").replace("(trace, client)", "(trace)")
        connection.executescript(f"{old} PRAGMA user_version=1;")
        connection.execute(store._INSERT.replace(", client)", ")").replace(",?)", ")"), store._row(span(1))[:-1])
        connection.commit()
    assert [each.spans for each in store.summaries(path, 5)] == [1]
    writer = store.Writer(path, 1_000_000)
    writer.write([span(2)])
    assert [int(each.trace, 16) for each in store.summaries(path, 5)] == [2]
    writer.close()


def test_a_batch_larger_than_the_store_is_refused_and_the_store_lives(tmp_path):
    writer = store.Writer(tmp_path / "spans.db", 1)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        writer.write([span(number, size=1000) for number in range(1, 1000)])
    writer.write([span(1)])
    assert store.summaries(tmp_path / "spans.db", 5)[0].spans == 1
    writer.close()


def test_writers_of_several_processes_share_it(tmp_path):
    path, failures = tmp_path / "spans.db", []

    def write(first: int) -> None:
        writer = store.Writer(path, 50_000_000)
        try:
            for number in range(first, first + 200, 20):
                writer.write([span(number + each) for each in range(20)])
        except BaseException as error:
            failures.append(error)
        writer.close()

    threads = [threading.Thread(target=write, args=(first,)) for first in range(1000, 9000, 1000)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures
    assert len(store.summaries(path, 10_000)) == 8 * 200


@pytest.mark.parametrize("content", [b"no database at all, and longer than a header of one" * 100, os.urandom(9000)])
def test_a_damaged_store_is_set_aside(tmp_path, content):
    path = tmp_path / "spans.db"
    path.write_bytes(content)
    with pytest.raises(store.DamagedError, match="can't be read"):
        store.summaries(path, 5)
    writer = store.Writer(path, 1_000_000)
    writer.write([span(1)])
    assert [each.spans for each in store.summaries(path, 5)] == [1]
    assert path.with_name("spans.db.damaged").read_bytes() == content
    writer.close()


def test_a_store_that_nobody_wrote_is_empty(tmp_path):
    path = tmp_path / "spans.db"
    assert store.summaries(path, 5) == store.traces(path, "a") == store.spans(path, ["a" * 32]) == []
    path.touch()
    assert store.summaries(path, 5) == store.traces(path, "a") == store.spans(path, ["a" * 32]) == []


def test_traces_are_found_by_the_beginning_of_their_ids(tmp_path):
    path = tmp_path / "spans.db"
    writer = store.Writer(path, 1_000_000)
    ids = ("ab" * 16, "abc" + "0" * 29, "f" * 32)
    writer.write([span(1)._replace(trace=each) for each in ids])
    assert sorted(store.traces(path, "ab")) == sorted(ids[:2])
    assert store.traces(path, "abc") == [ids[1]]
    assert store.traces(path, "") != []
    assert store.traces(path, "e") == []
    writer.close()


def test_only_its_owner_reads_it(tmp_path):
    path: Path = tmp_path / "trace" / "spans.db"
    writer = store.Writer(path, 1_000_000)
    writer.write([span(1)])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    writer.close()
