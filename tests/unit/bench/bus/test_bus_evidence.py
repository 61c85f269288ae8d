from atoll.bench.bus import evidence
from atoll.bench.bus.transport import TOPIC
from atoll.bus import payload
from atoll.bus.frames import Instance, MessageId, Request, encode
from atoll.bus.journal import Journal, journal_directory


def cast(number: int) -> tuple[MessageId, bytes]:
    message = MessageId(7, 1000 + number)
    body = payload.encode([{}, {"method": "note", "args": {"number": number}}])
    return message, encode(Request(message, 1, wants_reply=False, oldest=1, monitor_s=0, body=body))


def test_begun_casts_are_read_from_the_drivers_journal(tmp_path):
    journal = Journal(journal_directory(tmp_path, "", "rpc", "openstack", TOPIC, "server-1"), Instance(3, 1), list)
    for number in range(4):
        journal.taken(*cast(number))
    journal.begun(cast(2)[0])
    journal.begun(cast(0)[0])
    journal.begun(MessageId(8, 8))  # the journal no longer contains its request
    found = evidence.journals(tmp_path, "server-1")
    assert len(found) == 1
    assert evidence.begun(found) == {0, 2}
    assert evidence.journals(tmp_path, "server-2") == []


def test_a_record_that_death_cut_short(tmp_path):
    directory = journal_directory(tmp_path, "", "rpc", "openstack", TOPIC, "server-1")
    journal = Journal(directory, Instance(3, 1), list)
    journal.taken(*cast(1))
    journal.begun(cast(1)[0])
    journal.taken(*cast(2))
    (path,) = directory.iterdir()
    for length in range(300):  # of one MiB, which is nearly empty
        (tmp_path / "short").write_bytes(path.read_bytes()[:length])
        assert evidence.begun([tmp_path / "short"]) <= {1}


def test_a_journal_that_has_gone(tmp_path):
    assert evidence.begun([tmp_path / "gone.journal"]) == set()
