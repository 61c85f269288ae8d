"""The files of hand-offs: pieces of residues, states, and the disk that nova-compute takes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from atoll.gateway.handoffs.files import HandoffFiles, append
from atoll.gateway.handoffs.journal import KEPT_S, Arrival, Arriving, Departure, Journal, Leaving
from atoll.gateway.resolve.locate import REMEMBERED_S
from atoll.identifiers import ARRIVALS, arrival_file, arrival_memory

ARRIVAL = Arrival("h", "s", "p", "paris", {"name": "web"})


def test_pieces_follow_each_other_and_a_repeated_one_is_dropped(tmp_path):
    file = tmp_path / "residue"
    assert append(file, 0, b"abc") == 3
    assert append(file, 3, b"def") == 6
    assert append(file, 3, b"def") == 6, "its answer was lost"
    assert append(file, 9, b"x") == 6, "a gap"
    assert file.read_bytes() == b"abcdef"
    assert append(file, 0, b"new") == 3
    assert file.read_bytes() == b"new"


def test_disk_is_offered_once_and_withdrawn_unless_it_was_taken(tmp_path):
    files = HandoffFiles(tmp_path, tmp_path / "_base")
    state = files.states("h") / ("d" * 64)
    state.mkdir(parents=True)
    (state / "disk").write_bytes(b"disk")
    offered = tmp_path / ARRIVALS / arrival_file("s", "h")
    assert files.held("h") == ["d" * 64]
    assert [files.has(ARRIVAL, disk) for disk in ("d" * 64, "e" * 64, "../../../etc")] == [True, False, False]
    files.offer(ARRIVAL, "d" * 64)
    files.offer(ARRIVAL, "d" * 64)
    assert offered.read_bytes() == b"disk"
    files.withdraw(ARRIVAL)
    files.withdraw(ARRIVAL)
    assert not offered.exists()
    files.drop(ARRIVAL)
    assert files.held("h") == []


def test_memory_is_offered_and_withdrawn_with_its_disk(tmp_path):
    files = HandoffFiles(tmp_path, tmp_path / "_base")
    state = files.states("h") / ("d" * 64)
    state.mkdir(parents=True)
    for name in ("disk", "memory", "hardware"):
        (state / name).write_text(name)
    memory, machine = (tmp_path / ARRIVALS / name for name in arrival_memory("s", "h"))
    files.offer(ARRIVAL, "d" * 64)
    assert (memory.read_text(), machine.read_text()) == ("memory", "hardware")
    files.offer(ARRIVAL, "d" * 64)
    assert memory.exists()
    files.withdraw(ARRIVAL)
    assert list((tmp_path / ARRIVALS).iterdir()) == []
    memory.write_text("left by a nova-compute that was killed")
    files.drop(ARRIVAL)
    assert not memory.exists()


def test_launch_images_of_a_user_are_kept_with_the_hand_off(tmp_path):
    files = HandoffFiles(tmp_path, tmp_path / "_base")
    assert files.launches("h") == []
    files.note_launches("h", ["a" * 64])
    assert files.launches("h") == ["a" * 64]
    files.remove("h")
    assert files.launches("h") == []


def test_no_name_of_a_state_leads_to_the_disk_of_another_server(tmp_path):
    files = HandoffFiles(tmp_path / "cloudlet", tmp_path / "_base")
    files.states("h").mkdir(parents=True)
    victim = tmp_path / "instances" / "victim" / "disk"
    other = files.states("other") / ("e" * 64) / "disk"
    for path in (victim, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"theirs")
    for name in (str(victim.parent), "../../../../instances/victim", f"../../other/states/{'e' * 64}"):
        assert (files.states("h") / name / "disk").exists()
        files.offer(ARRIVAL, name)
    assert victim.read_bytes() == other.read_bytes() == b"theirs"
    assert not (tmp_path / "cloudlet" / ARRIVALS).exists()


def test_newest_state_comes_first_and_the_others_go(tmp_path):
    files = HandoffFiles(tmp_path, tmp_path / "_base")
    for number, name in enumerate("abc"):
        path = files.states("h") / name
        path.mkdir(parents=True)
        os.utime(path, ns=(number, number))
    (files.states("h") / ".new").mkdir()
    assert files.held("h") == ["c", "b", "a"]
    files.keep_only("h", "b", "c")
    assert files.held("h") == ["c", "b"]
    files.keep_only("h", "b")
    assert files.held("h") == ["b"]


def test_journal_keeps_few_ended_hand_offs_of_a_server_and_no_description_of_it(tmp_path):
    journal = Journal(tmp_path / "handoffs.db")
    assert (tmp_path / "handoffs.db").stat().st_mode & 0o077 == 0
    for number in range(40):
        departure = Departure(str(number), "s", "p", "nice", wish={"user_data": "secret" * 10_000})
        journal.depart(departure)
        assert [each.id for each in journal.open_departures()] == [departure.id]
        journal.move(departure, Leaving.FAILED, reason="no valid host")
    journal.depart(Departure("other", "t", "p", "nice", Leaving.DONE))
    assert [each.id for each in journal.departures()] == ["36", "37", "38", "39", "other"]
    assert all(each.wish == {} for each in journal.departures())
    assert journal.open_departures() == []
    assert journal.shown("39", "s", "p").reason == "no valid host"
    assert [journal.shown(*wrong) for wrong in (("39", "t", "p"), ("39", "s", "q"), ("1", "s", "p"), ("", "s", "p"))] == [None] * 4
    journal.close()


def test_ended_hand_offs_are_kept_for_a_week_and_open_ones_for_ever(tmp_path):
    now = 1e9
    journal = Journal(tmp_path / "handoffs.db", clock=lambda: now)
    journal.depart(Departure("open", "s", "p", "nice", Leaving.COMMITTING))
    journal.depart(Departure("done", "t", "p", "nice", Leaving.DONE))
    journal.depart(Departure("failed", "u", "p", "nice", Leaving.FAILED))
    assert journal.latest("t").ended_s == now
    now += KEPT_S - 1
    journal.depart(journal.latest("t"))  # as if it were recorded again, which does not prolong it
    journal.depart(Departure("new", "v", "p", "nice", Leaving.DONE))
    assert [each.id for each in journal.departures()] == ["open", "done", "failed", "new"]
    now += 2
    journal.close()
    journal = Journal(tmp_path / "handoffs.db", clock=lambda: now)
    assert [each.id for each in journal.departures()] == ["open", "new"]
    now += KEPT_S
    journal.depart(Departure("newer", "w", "p", "nice", Leaving.DONE))
    assert [each.id for each in journal.departures()] == ["open", "newer"]
    journal.close()
    assert KEPT_S > 2 * REMEMBERED_S, "no gateway remembers the former site of a server for longer"


def test_one_project_cannot_fill_the_journal_nor_displace_the_hand_offs_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.gateway.handoffs.journal.MOST_ENDED_OF_PROJECT", 3)
    journal = Journal(tmp_path / "handoffs.db")
    journal.depart(Departure("ours", "s", "p", "nice", Leaving.DONE))
    journal.depart(Departure("open", "x", "q", "nice"))
    for number in range(9):
        journal.depart(Departure(str(number), f"server {number}", "q", "nice", Leaving.FAILED))
    assert [each.id for each in journal.departures()] == ["ours", "open", "6", "7", "8"]
    journal.close()


def test_journal_of_an_earlier_version_is_dated_when_it_is_opened(tmp_path):
    journal = Journal(tmp_path / "handoffs.db")
    journal.depart(Departure("1", "s", "p", "nice", Leaving.DONE))
    journal.depart(Departure("2", "t", "p", "nice", Leaving.COPYING))
    journal.close()
    with closing(sqlite3.connect(tmp_path / "handoffs.db")) as database, database:
        database.execute("UPDATE departure SET record = json_remove(record, '$.ended_s')")
    journal = Journal(tmp_path / "handoffs.db", clock=lambda: 5e9)
    assert [(each.id, each.ended_s) for each in journal.departures()] == [("1", 5e9), ("2", 0.0)]
    journal.close()


def test_journal_keeps_both_sides_and_their_order(tmp_path):
    journal = Journal(tmp_path / "handoffs.db")
    first = Departure("1", "s", "p", "nice", wish={"name": "web"})
    journal.depart(first)
    journal.depart(Departure("2", "s", "p", "lyon"))
    journal.move(first, Leaving.DONE, result={"addresses": []})
    journal.arrive(ARRIVAL)
    journal.settle(ARRIVAL, Arriving.REFUSED, reason="no")
    journal.close()
    journal = Journal(tmp_path / "handoffs.db")
    assert [(each.id, each.state) for each in journal.departures()] == [("1", Leaving.DONE), ("2", Leaving.COPYING)]
    assert journal.latest("s").id == "2"
    assert journal.departure("1").site == "nice"
    assert journal.arrival("h").reason == "no"
    journal.forget("h")
    assert journal.arrivals() == []
    journal.close()
