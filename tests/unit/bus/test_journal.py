"""The journal: messages that a killed process acknowledged are executed once by its successor, whenever the kill came."""

import fcntl
import itertools
import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.bus import journal as journal_module
from atoll.bus.frames import Instance, MessageId
from atoll.bus.journal import EntryKind, Journal, JournalEntry, JournalHistory, journal_directory, read, unbegun

HEAD = 21
"""The bytes of an entry without its frame."""
STEPS = st.lists(st.tuples(st.sampled_from(["taken", "begun"]), st.integers(1, 6), st.binary(max_size=30)), max_size=12)
_lives = itertools.count(1)


def message(number: int) -> MessageId:
    return MessageId(7, number)


def begin(directory: Path, needed=lambda: ()) -> Journal:
    return Journal(directory, Instance(next(_lives), 1), needed)


def take_over(directory: Path) -> tuple[JournalHistory, dict[MessageId, bytes]]:
    past = JournalHistory()
    with past.take_over(directory) as left:
        return past, dict(left)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_successor_gets_what_was_taken_and_not_begun(tmp_path):
    journal = begin(tmp_path)
    for number in (1, 2, 3):
        journal.taken(message(number), b"frame %d" % number)
    journal.begun(message(2))
    journal.begun(message(9))  # a call is not recorded when it is taken
    journal.close()
    (tmp_path / files(tmp_path)[0]).with_suffix(".new").write_bytes(b"it was killed while it wrote the journal anew")
    past, left = take_over(tmp_path)
    assert left == {message(1): b"frame 1", message(3): b"frame 3"}
    assert [past.was_begun(message(number)) for number in (1, 2, 3, 9)] == [False, True, False, True]
    assert files(tmp_path) == []
    assert take_over(tmp_path)[1] == {}, "only one successor may take a journal over"


def test_unbegun_messages_can_be_read_before_a_takeover(tmp_path):
    for listener in ("one", "two"):
        journal = begin(tmp_path / listener)
        journal.taken(message(1), f"{listener} begun".encode())
        journal.taken(message(2), f"{listener} waits".encode())
        journal.begun(message(1))
        journal.close()
    assert sorted(unbegun(tmp_path)) == [b"one waits", b"two waits"]
    begin(tmp_path / "one").begun(message(2))  # begun by a successor that was killed before it removed the file
    assert list(unbegun(tmp_path)) == [b"two waits"]
    assert list(unbegun(tmp_path / "nowhere")) == []


def test_journal_of_a_living_process_is_left_alone(tmp_path):
    journal = begin(tmp_path)
    journal.taken(message(1), b"x")
    past, left = take_over(tmp_path)
    assert left == {}
    assert not past.remembers(Instance(1, 1))
    assert len(files(tmp_path)) == 1
    journal.close()


def test_instance_is_remembered_through_many_lives(tmp_path):
    """A sender may ask the third life about a message to the first."""
    first = Journal(tmp_path, Instance(0xAA, 1), lambda: ())
    first.begun(message(1))
    first.close()
    for _ in range(3):
        past = JournalHistory()
        journal = begin(tmp_path, past.records)
        with past.take_over(tmp_path):
            journal.inherit(past.records())
        journal.close()
        assert past.remembers(Instance(0xAA, 1))
        assert past.was_begun(message(1))
    assert not past.remembers(Instance(0xBB, 1))


@given(STEPS, st.data())
def test_cut_anywhere_nothing_whole_is_lost_and_nothing_is_executed_twice(tmp_path_factory, steps, data):
    """The process is killed after any byte: the file holds the bytes written until then, and zeros."""
    directory = tmp_path_factory.mktemp("journal")
    journal = begin(directory)
    ends, position = [], 0
    for kind, number, frame in steps:
        if kind == "taken":
            journal.taken(message(number), frame)
            position += HEAD + len(frame)
        else:
            journal.begun(message(number))
            position += HEAD
        ends.append((position, kind, message(number), frame))
    journal.close()
    cut = data.draw(st.integers(0, position))
    path = directory / files(directory)[0]
    whole = path.read_bytes()
    # The first byte of an entry is written last: of an unfinished entry, only later bytes may exist.
    begun_at = max([0, *(end for end, *_ in ends if end <= cut)])
    path.write_bytes(whole[:begun_at] + b"\0" + whole[begun_at + 1 : cut] + bytes(len(whole) - max(cut, begun_at + 1)))
    past, left = take_over(directory)
    written = [step for step in ends if step[0] <= cut]
    begun = {message for _, kind, message, _ in written if kind == "begun"}
    taken = {message: frame for _, kind, message, frame in written if kind == "taken"}
    assert left == {message: frame for message, frame in taken.items() if message not in begun}
    assert all(past.was_begun(message) for message in begun)


@given(STEPS, STEPS)
def test_kill_in_the_middle_of_taking_over_loses_nothing_and_repeats_nothing(tmp_path_factory, first_steps, second_steps):
    """The second life has taken over some messages, begun some, and not removed the first one's file: all files count together."""
    directory = tmp_path_factory.mktemp("journal")
    taken, begun = {}, set()
    for steps in (first_steps, second_steps):
        journal = begin(directory)
        for kind, number, frame in steps:
            if kind == "taken":
                journal.taken(message(number), frame)
                taken[message(number)] = frame
            else:
                journal.begun(message(number))
                begun.add(message(number))
        journal.close()
    _, left = take_over(directory)
    assert set(left) == set(taken) - begun


@given(st.binary(max_size=300))
def test_any_bytes_are_read_to_where_they_make_sense(data):
    for record in read(data):
        assert isinstance(record, JournalEntry)
        assert record.kind in EntryKind


def test_full_journal_is_written_anew_with_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "MIN_BYTES", 1000)
    needed = [JournalEntry(EntryKind.HEIR, MessageId(0xAA, 1)), JournalEntry(EntryKind.BEGUN, message(500))]
    journal = begin(tmp_path, lambda: needed)
    journal.taken(message(1), b"x" * 100)
    for number in range(2, 200):
        journal.taken(message(number), b"y" * 100)
        journal.begun(message(number))
    size = (tmp_path / files(tmp_path)[0]).stat().st_size
    assert size <= 2000, "finished messages must take no space"
    assert len(files(tmp_path)) == 1
    assert take_over(tmp_path)[1] == {}, "the rewritten journal must still be locked"
    journal.close()
    past, left = take_over(tmp_path)
    assert left == {message(1): b"x" * 100}
    assert past.remembers(Instance(0xAA, 1))
    assert past.was_begun(message(500))


def test_message_larger_than_the_journal_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "MIN_BYTES", 100)
    journal = begin(tmp_path)
    journal.taken(message(1), b"x" * 10_000)
    journal.taken(message(2), b"y")
    journal.close()
    assert set(take_over(tmp_path)[1]) == {message(1), message(2)}


def test_disk_that_is_full_is_told_before_anything_is_written(tmp_path, monkeypatch):
    journal = begin(tmp_path)
    journal.taken(message(1), b"x")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        journal.taken(message(2), b"x" * journal_module.MIN_BYTES)
    with pytest.raises(OSError, match="No space"):
        begin(tmp_path)
    monkeypatch.undo()
    assert len(files(tmp_path)) == 1, "no unfinished file may stay"
    journal.taken(message(3), b"z")
    journal.close()
    assert take_over(tmp_path)[1] == {message(1): b"x", message(3): b"z"}


def test_journal_that_is_written_anew_under_a_successor_s_eyes_is_not_taken(tmp_path, monkeypatch):
    """The successor has opened the old file; its owner replaces it and releases it; only then the successor gets the lock."""
    monkeypatch.setattr(journal_module, "MIN_BYTES", 100)
    journal = begin(tmp_path)
    journal.taken(message(1), b"x")
    flock, calls = fcntl.flock, []

    def renew_first(file, how):
        if not calls:
            calls.append(file)
            journal.taken(message(2), b"y" * 200)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", renew_first)
    past, left = take_over(tmp_path)
    assert left == {}
    assert not past._instances
    journal.close()
    assert set(take_over(tmp_path)[1]) == {message(1), message(2)}


def test_past_that_is_too_long_claims_nothing_and_the_next_life_begins_anew(tmp_path, monkeypatch):
    """Forgotten messages must not be handed on, or every later life would forget all again."""
    monkeypatch.setattr(journal_module, "MAX_PAST", 5)
    long_lived = Journal(tmp_path, Instance(0xAA, 1), lambda: ())
    long_lived.taken(message(100), b"left")
    for number in range(10):
        long_lived.begun(message(number))
    long_lived.close()
    past = JournalHistory()
    second = Journal(tmp_path, Instance(0xBB, 1), past.records)
    with past.take_over(tmp_path) as left:
        assert left == {message(100): b"left"}
        second.inherit(past.records())
    assert not past.remembers(Instance(0xAA, 1))
    second.begun(message(50))
    second.close()
    past, _ = take_over(tmp_path)
    assert past.remembers(Instance(0xBB, 1))
    assert past.was_begun(message(50))


def test_directory_is_of_all_who_have_the_same_names():
    root = Path("/journals")
    assert journal_directory(root, "v", "rpc", "e", "t", "s") == root / "v+rpc+e+t+s"
    assert journal_directory(root, "v", "rpc", "a/b", "..", "é+") == root / "v+rpc+a%2Fb+..+%C3%A9%2B"
    long = journal_directory(root, "v", "x" * 300)
    assert len(long.name) == 64
    assert long != journal_directory(root, "v", "x" * 301)


def test_journal_is_readable_by_its_user_alone(tmp_path):
    directory = tmp_path / "new" / "deep"
    begin(directory).close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / files(directory)[0]).stat().st_mode & 0o777 == 0o600


class Watched(mmap.mmap):
    """A mapped file that records the flushed bytes."""

    flushed: list[bytes]

    def flush(self, offset: int = 0, size: int = 0) -> None:
        assert offset % mmap.PAGESIZE == 0, "the kernel flushes whole pages only"
        super().flush(offset, size)
        self.flushed.append(self[offset : offset + size])


@pytest.fixture
def flushed(monkeypatch) -> list[bytes]:
    """Return the bytes of each flush."""
    found: list[bytes] = []
    monkeypatch.setattr(Watched, "flushed", found, raising=False)
    monkeypatch.setattr(journal_module.mmap, "mmap", Watched)
    return found


def test_durable_journal_flushes_each_record_whole(tmp_path, flushed):
    journal = begin(tmp_path)
    for number in range(1, 200):  # over several pages
        frame = b"frame %d " % number * 9
        journal.taken(message(number), frame)
        assert frame in flushed[-1]
        journal.begun(message(number))
        assert flushed[-1].endswith(number.to_bytes(8, "big") + bytes(4))
    assert len(flushed) == 2 * 199
    journal.close()


def test_durable_journal_that_is_written_anew_is_flushed_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def flush(descriptor: int) -> None:
        done.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().suffix}")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    journal = begin(tmp_path)
    monkeypatch.setattr(journal_module.os, "fsync", flush)
    monkeypatch.setattr(Path, "rename", renamed)
    journal.taken(message(1), bytes(900_000))
    journal.taken(message(2), bytes(900_000))
    assert done[:3] == ["flush .new", "rename", "flush .journal"]
    journal.close()


def test_begin_of_a_call_is_flushed_unless_its_sender_ends_with_this_node(tmp_path, flushed):
    journal = Journal(tmp_path, Instance(5, 1), lambda: ())
    journal.begun(MessageId(6, 1))
    assert len(flushed) == 1, "a call from another node must be flushed: that node may ask what became of it"
    for number in range(1, 500):  # several pages
        journal.begun(MessageId(5, number))
    assert len(flushed) == 1
    journal.taken(MessageId(5, 500), b"x")
    assert len(list(read(flushed[-1]))) == 501, "a flush must include all earlier entries, because a reader ends at the first gap"
    journal.begun(MessageId(5, 500))
    assert len(flushed) == 3
    journal.close()


def test_journal_that_is_not_durable_flushes_nothing(tmp_path, flushed):
    journal = Journal(tmp_path, Instance(next(_lives), 1), lambda: (), durable=False)
    journal.taken(message(1), b"x")
    journal.begun(message(1))
    assert flushed == []
    journal.close()
