"""Seeding, compaction, verification, and giving back what Redis has lost."""

import json
import sqlite3

import bypass
import pytest
import sqlalchemy as sa
from shared_table import META, eventually, numbers, store_of, write
from sqlalchemy.engine import make_url

from atoll.stores import maintenance
from atoll.stores.__main__ import main
from atoll.stores.errors import LostTail, NotAReplica, Reseeded, StoreError, WrongLog
from atoll.stores.follower import Follower
from atoll.stores.store import close_stores
from atoll.stores.url import parse


@pytest.fixture
def sites(site):
    """Two sites with five rows each."""
    paris, lyon = site("paris"), site("lyon")
    META.create_all(paris)
    for n in range(5):
        write(paris, n)
    eventually(lambda: sa.inspect(lyon).has_table("t") and numbers(lyon) == [0, 1, 2, 3, 4])
    return paris, lyon


def test_a_lost_tail_is_given_back(server, site, log, sites):
    paris, lyon = sites
    server.lose_tail(log, 4)
    for engine in sites:
        with pytest.raises(sa.exc.OperationalError, match="reseed the log"):
            write(engine, 9)
    assert maintenance.reseed(store_of(paris)) == (2, 0, False)
    write(paris, 7)
    eventually(lambda: store_of(lyon).group.refusal is None)
    write(lyon, 8)
    eventually(lambda: numbers(paris) == numbers(lyon) == [0, 1, 2, 3, 4, 7, 8])
    assert numbers(site("nice")) == [0, 1, 2, 3, 4, 7, 8]


def test_a_judgement_from_before_a_reseed_refuses_nothing(server, log, sites, monkeypatch):
    store = store_of(sites[0])
    store.follower.stop()
    store.follower.join()
    follower = Follower(store.replica, store.log, store.group, lambda: None)
    server.lose_tail(log, 4)
    ask = store.log.state

    def state(n):
        answer = ask(n)
        monkeypatch.setattr(store.log, "state", ask)
        maintenance.reseed(store)
        return answer

    monkeypatch.setattr(store.log, "state", state)
    monkeypatch.setattr(store, "follower", follower)
    monkeypatch.setattr(store.group, "refusal", LostTail("the log ends at 4"))
    follower.step()
    assert store.group.refusal is None
    write(sites[0], 7)


def test_a_log_that_is_gone_is_made_anew(server, site, log, sites):
    paris, lyon = sites
    server.client().delete(*(f"{{{log}}}:{part}" for part in ("log", "meta", "slots", "snapshot", "turn")))
    with pytest.raises(sa.exc.OperationalError, match="Redis has lost"):
        write(paris, 9)
    done = maintenance.reseed(store_of(paris))
    assert (done.discarded, done.anew) == (0, True)
    write(paris, 7)
    eventually(lambda: numbers(lyon) == [0, 1, 2, 3, 4, 7])  # its history is in the new log, so it goes on
    write(lyon, 8)
    assert numbers(site("nice")) == [0, 1, 2, 3, 4, 7, 8]


def test_a_forked_log_is_replaced_only_on_demand(server, site, log, sites):
    paris, lyon = sites
    lyon.dispose()
    close_stores()
    server.lose_tail(log, 5)
    lyon_file = parse(lyon.url).replica
    for suffix in ("", "-wal", "-shm"):
        (lyon_file.parent / (lyon_file.name + suffix)).unlink(missing_ok=True)
    lyon = site("lyon")
    write(lyon, 100)  # lyon knows nothing of what was lost
    paris = site("paris")
    assert numbers(paris) == [0, 1, 2, 3, 4]
    with pytest.raises(LostTail, match="1 of its entries are not in"):
        maintenance.reseed(store_of(paris))
    assert numbers(lyon) == [0, 1, 2, 3, 100]
    assert maintenance.reseed(store_of(paris), discard=True) == (1, 1, True)
    write(paris, 7)
    with pytest.raises(sa.exc.OperationalError, match="made anew"):
        write(lyon, 101)
    lyon.dispose()
    close_stores()
    with pytest.raises(Reseeded):
        store_of(lyon)
    assert numbers(site("nice")) == [0, 1, 2, 3, 4, 7]


def test_compaction(server, site, log, sites):
    paris, lyon = sites
    assert maintenance.compact(store_of(paris), keep=2) == 3
    assert maintenance.compact(store_of(lyon), keep=100) == 0
    write(lyon, 5)
    nice = site("nice")
    assert numbers(nice) == [0, 1, 2, 3, 4, 5]
    for engine in (paris, nice):
        assert maintenance.verify(store_of(engine)) == []
    server.lose_tail(log, 0)
    with pytest.raises(StoreError):
        maintenance.compact(store_of(paris))


def test_verification_finds_a_change_past_the_guards(sites):
    paris, lyon = sites
    assert bypass.write(parse(lyon.url).replica, "UPDATE t SET n = 77 WHERE n = 0", admitted=True) == ""
    assert maintenance.verify(store_of(lyon)) == ["t"]
    assert maintenance.verify(store_of(paris)) == []


def test_a_log_begins_with_a_database(server, site, log, tmp_path):
    source = tmp_path / "old.db"
    with sqlite3.connect(source) as old:
        old.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
        old.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    old.close()
    settings = parse(make_url(server.url(tmp_path / "paris.db", log, "paris")))
    with pytest.raises(NotAReplica):
        maintenance.seed(settings, tmp_path / "missing.db")
    assert not settings.replica.exists()
    assert maintenance.seed(settings, source) == 1
    paris, lyon = site("paris"), site("lyon")
    assert numbers(paris) == numbers(lyon) == [1, 2]
    write(lyon, 3)
    eventually(lambda: numbers(paris) == [1, 2, 3])
    with pytest.raises(NotAReplica, match="exists already"):
        maintenance.seed(settings, source)
    with pytest.raises(WrongLog, match="it has entries already"):
        maintenance.seed(parse(make_url(server.url(tmp_path / "nice.db", log, "nice"))), source)


def test_commands(server, log, sites, capsys):
    url = sites[0].url.render_as_string(hide_password=False)
    assert main(["status", url]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["position"], status["refusal"]) == (6, None)
    assert main(["verify", url]) == 0
    assert main(["compact", "--keep", "1", url]) == 0
    assert capsys.readouterr().out == "the replica equals the log\n4 entries deleted\n"
    assert main(["compact", url + "&colour=blue"]) == 1
    assert capsys.readouterr().err.startswith("error: database URL: unknown parameter 'colour'")
    assert main(["verify", "nonsense"]) == 1
    server.lose_tail(log, 5)
    assert main(["reseed", url]) == 0
    assert capsys.readouterr().out == "log continued: 1 entries restored, 0 discarded\n"
