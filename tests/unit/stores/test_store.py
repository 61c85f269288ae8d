"""Opening a store: what is refused, with one line, and nothing changed."""

import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import bypass
import pytest
import redis_server
import sqlalchemy as sa
from shared_table import META, T, eventually, numbers, store_of, write
from sqlalchemy.engine import make_url

from atoll.stores import follower as follower_module
from atoll.stores import log as log_module
from atoll.stores.errors import LostTail, NotAReplica, NotDurable, OutcomeUnknown, RedisUnreachable, ReplicaEdited, Trimmed, WrongLog
from atoll.stores.log import Log
from atoll.stores.maintenance import compact, verify
from atoll.stores.metrics import Metrics
from atoll.stores.store import Store, close_stores, open_store
from atoll.stores.url import parse


@pytest.fixture
def settings(server, log, tmp_path):
    def of(name="paris", **parameters):
        return parse(make_url(server.url(tmp_path / f"{name}.db", log, name, **parameters)))

    return of


def begun(site, name="paris", **parameters):
    engine = site(name, **parameters)
    META.create_all(engine)
    with engine.begin() as connection:
        connection.execute(T.insert().values(n=1))
    return engine


def refused(kind, act):
    """Assert that an act raises an error of one line, and return it."""
    with pytest.raises((kind, sa.exc.OperationalError)) as raised:
        act()
    error = getattr(raised.value, "orig", raised.value)
    assert isinstance(error, kind), error
    assert "\n" not in str(error)
    return str(error)


def test_a_log_of_another_cloud(server, site, log, settings, tmp_path):
    begun(site)
    before = server.client().xinfo_stream(f"{{{log}}}:log")
    other = parse(make_url(server.url(tmp_path / "x.db", log, "lyon").replace("cloud=demo", "cloud=theirs")))
    assert "it belongs to cloud 'demo', not 'theirs'" in refused(WrongLog, lambda: Store(other))
    assert not (tmp_path / "x.db").exists()
    assert server.client().xinfo_stream(f"{{{log}}}:log") == before
    assert server.client().hkeys(f"{{{log}}}:slots") == [b"paris"]


def test_a_log_of_another_format(server, site, log, settings):
    begun(site)
    server.client().hset(f"{{{log}}}:meta", "format", "99")
    assert "its format is 99, and this version reads 1" in refused(WrongLog, lambda: Store(settings("lyon")))


def test_a_key_that_is_not_a_log(server, log, settings):
    server.client().set(f"{{{log}}}:log", "theirs")
    assert "is not a log" in refused(WrongLog, lambda: Store(settings()))
    assert server.client().get(f"{{{log}}}:log") == b"theirs"


def test_more_sites_than_slots(settings):
    Store(settings(stride=1), follow=False).close()
    assert "all 1 slots are taken" in refused(WrongLog, lambda: Store(settings("lyon")))


def test_a_server_without_persistence(tmp_path, log):
    with redis_server.running(tmp_path, "--appendonly", "no") as other:
        settings = parse(make_url(other.url(tmp_path / "x.db", log)))
        assert "set appendonly to yes" in refused(NotDurable, lambda: Store(settings))
        assert other.client().dbsize() == 0
        assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no database at all, but text" * 100), "not a SQLite database"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE theirs (x)").connection.close(), "not the replica of a log"),
    ],
    ids=["text", "database"],
)
def test_a_file_that_is_not_a_replica(settings, make, message):
    path = settings().replica
    make(path)
    before = path.read_bytes()
    assert message in refused(NotAReplica, lambda: Store(settings()))
    assert path.read_bytes() == before


def test_a_replica_of_another_log(server, site, log, settings, tmp_path):
    begun(site)
    other = parse(make_url(server.url(settings().replica, f"{log}x")))
    close_stores()
    assert f"a replica of log '{log}' of cloud 'demo'" in refused(WrongLog, lambda: Store(other))
    assert not server.client().exists(f"{{{log}x}}:meta")


def test_a_directory_that_is_not_there(server, log):
    settings = parse(make_url(server.url(Path("/nowhere/x.db"), log)))
    assert "the file's directory does not exist" in refused(NotAReplica, lambda: Store(settings))


def test_one_file_with_two_urls(site, settings):
    begun(site)
    assert "with another URL" in refused(WrongLog, lambda: open_store(settings(isolation="snapshot")))


def test_a_writer_that_bypasses_the_store_is_refused(site, settings):
    engine = begun(site)
    path = settings().replica
    for statement in ("INSERT INTO t VALUES (5, 5)", "UPDATE t SET n = 5", "DELETE FROM t"):
        assert bypass.write(path, statement) == "no such function: written_past_the_store"
    write(engine)
    assert numbers(engine) == [1, 9]


def test_a_schema_that_was_changed_by_hand_is_found(server, site, log, settings):
    engine = begun(site)
    assert bypass.write(settings().replica, "CREATE TABLE mine (x)") == ""
    length = server.client().xlen(f"{{{log}}}:log")
    assert "another program has changed the schema" in refused(ReplicaEdited, lambda: write(engine))
    assert server.client().xlen(f"{{{log}}}:log") == length
    close_stores()
    assert "another program has changed the schema" in refused(ReplicaEdited, lambda: write(site()))


def test_rows_that_were_changed_past_the_guards_are_found(site, settings):
    paris, lyon = begun(site), site("lyon")
    eventually(lambda: sa.inspect(lyon).has_table("t") and numbers(lyon) == [1])
    assert bypass.write(settings("lyon").replica, "UPDATE t SET n = 77", admitted=True) == ""
    with paris.begin() as connection:
        connection.execute(T.update().values(n=2))
    eventually(lambda: store_of(lyon).group.refusal is not None)
    assert "does not fit" in refused(ReplicaEdited, lambda: write(lyon))
    assert numbers(lyon) == [77]
    write(paris)
    assert numbers(paris) == [2, 9]


def test_a_lost_tail_stops_writers_and_not_readers(server, site, log):
    engine = begun(site)
    write(engine, 2)
    server.lose_tail(log, 2)
    eventually(lambda: store_of(engine).group.refusal is not None)
    assert "it ends at entry 2, and" in refused(LostTail, lambda: write(engine))
    assert numbers(engine) == [1, 2]
    close_stores()
    again = site()
    assert "Redis has lost commits" in refused(LostTail, lambda: write(again))
    assert numbers(again) == [1, 2]
    assert server.client().xlen(f"{{{log}}}:log") == 2


def test_a_log_that_went_on_after_it_lost_its_tail(server, site, log):
    paris = begun(site)
    write(paris, 2)
    fields = server.client().xrange(f"{{{log}}}:log", "3-0")[0][1]
    server.lose_tail(log, 2, ("3-0", {**fields, b"t": b"of another site."}))
    assert "entry 3 differs from the one in" in refused(LostTail, lambda: write(paris))
    assert numbers(paris) == [1, 2]
    assert server.client().xlen(f"{{{log}}}:log") == 3


def test_a_log_that_has_grown_past_the_lost_tail_is_not_followed(server, site, log):
    paris = begun(site)
    store = store_of(paris)
    store.follower.stop()
    store.follower.join()
    write(paris, 2)
    server.lose_tail(log, 2)
    nice = site("nice")
    for n in (100, 101):
        write(nice, n)
    refused(LostTail, store.catch_up)
    assert numbers(paris) == [1, 2]
    refused(LostTail, lambda: write(paris))
    assert numbers(paris) == [1, 2]
    assert numbers(nice) == [1, 100, 101]


def test_a_log_that_vanished(server, site, log):
    engine = begun(site)
    server.client().delete(*(f"{{{log}}}:{part}" for part in ("log", "meta", "slots", "snapshot")))
    refused(LostTail, lambda: write(engine))
    close_stores()
    assert "Redis has lost" in refused(LostTail, lambda: write(site()))
    assert not server.client().exists(f"{{{log}}}:meta")


def test_a_replica_that_is_too_old_takes_the_snapshot(server, site, log):
    paris, lyon = begun(site), site("lyon")
    eventually(lambda: sa.inspect(lyon).has_table("t"))
    lyon.dispose()
    close_stores()
    paris = site()
    for n in range(5):
        write(paris, n)
    assert compact(store_of(paris), keep=0) > 3
    lyon = site("lyon")
    assert numbers(lyon) == numbers(paris)
    assert store_of(lyon).metrics.restores == 1
    write(lyon, 50)
    eventually(lambda: 50 in numbers(paris))


def test_a_writer_whose_entries_were_cut(site):
    paris, lyon = begun(site), site("lyon")
    eventually(lambda: sa.inspect(lyon).has_table("t"))
    idle = store_of(lyon).follower
    idle.stop()
    idle.join()
    write(paris)
    assert compact(store_of(paris), keep=0) == 2
    assert "try again" in refused(Trimmed, lambda: write(lyon))
    store = store_of(lyon)
    store.follower = follower_module.Follower(store.replica, store.log, store.group, idle._renew)
    store.follower.start()
    eventually(lambda: store.metrics.restores == 1 and store.group.refusal is None)
    write(lyon, 10)
    eventually(lambda: numbers(paris) == numbers(lyon) == [1, 9, 10])


def test_a_writer_far_behind_catches_up_first(site, monkeypatch):
    monkeypatch.setattr(log_module, "MOST_ENTRIES", 3)
    monkeypatch.setattr(log_module, "READ_ENTRIES", 4)
    paris, lyon = begun(site), site("lyon")
    eventually(lambda: sa.inspect(lyon).has_table("t"))
    idle = store_of(lyon).follower
    idle.stop()
    idle.join()
    for n in range(10):
        write(paris, n)
    write(lyon, 50)
    assert numbers(lyon) == sorted([1, *range(10), 50])


def test_one_process_of_a_site_follows(settings, monkeypatch):
    monkeypatch.setattr(follower_module, "STAND_BY_S", 0.02)
    first = Store(settings())
    eventually(lambda: is_followed(first))
    second = Store(settings())
    first.close()
    eventually(lambda: is_followed(second))
    second.close()
    assert not is_followed(second)


def is_followed(store):
    try:
        os.close(store.replica.lock("follow", wait=False))
    except BlockingIOError:
        return True
    return False


def test_a_site_that_is_cut_reads_and_does_not_write(tmp_path, log):
    with redis_server.running(tmp_path) as other:
        engine = sa.create_engine(other.url(tmp_path / "x.db", log, timeout=0.3))
        META.create_all(engine)
        write(engine, 1)
        other.kill()
        assert numbers(engine) == [1]
        assert "no answer for 0.3 s; whether the transaction is in the log is unknown" in refused(Exception, lambda: write(engine))
        assert numbers(engine) == [1]
        engine.dispose()
        close_stores()
        cold = sa.create_engine(other.url(tmp_path / "x.db", log, timeout=0.3))
        assert numbers(cold) == [1]  # a restart during the cut
        refused(RedisUnreachable, lambda: write(cold))
        other.start()
        write(cold, 3)
        assert numbers(cold) == [1, 3]
        cold.dispose()
        close_stores()
    with pytest.raises(RedisUnreachable):
        Store(parse(make_url(other.url(tmp_path / "new.db", log))))


def test_commits_that_wait_for_a_replica(tmp_path, log):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "replica").mkdir()
    with redis_server.running(tmp_path, "--port", str(port), "--bind", "127.0.0.1") as master:
        engine = sa.create_engine(master.url(tmp_path / "x.db", log, wait=1, timeout=3))
        with redis_server.running(tmp_path / "replica", "--replicaof", "127.0.0.1", str(port)) as replica:
            while replica.client().info("replication")["master_link_status"] != "up":
                time.sleep(0.02)
            META.create_all(engine)
            write(engine, 1)
            assert replica.client().xlen(f"{{{log}}}:log") == 2
        message = refused(OutcomeUnknown, lambda: write(engine, 2))
        assert "whether the transaction is in the log is unknown" in message
        assert master.client().xlen(f"{{{log}}}:log") == 3  # it was sent again and again, and is there once
        assert numbers(engine) == [1], "no replica of Redis has confirmed the commit"
        with redis_server.running(tmp_path / "replica", "--replicaof", "127.0.0.1", str(port)):
            eventually(lambda: numbers(engine) == [1, 2])
        engine.dispose()
        close_stores()


def test_a_wrong_password(tmp_path, log):
    with redis_server.running(tmp_path) as other:
        other.client().config_set("requirepass", "secret")
        settings = parse(make_url(other.url(tmp_path / "x.db", log)))
        message = refused(WrongLog, lambda: Store(settings))
        assert "refuses the user name or password" in message


def test_the_log_describes_itself(settings):
    log = Log(settings(), Metrics())
    assert log.attach(create=True).slot == 0
    assert log.state(1).head == 0
    log.close()


def test_entries_of_a_replaced_master_are_not_applied_after_a_commit_on_the_new_one(site, server, log):
    """The follower may hold them while the site commits on another server, whose log has other entries in their place."""
    paris, lyon = begun(site), site("lyon")
    store = store_of(paris)
    store.follower.stop()
    store.follower.join()
    with store.group.alone() as position:
        pass
    for n in (5, 6):
        write(lyon, n)
    old = store.log.entries(store.group.writer.generation, position)
    assert len(old) == 2
    server.lose_tail(log, position.n)
    write(paris, 7)
    assert store.group.absorb(old, position).n == position.n + 1
    assert numbers(paris) == [1, 7]
    assert verify(store) == []


def test_entries_that_the_site_has_committed_itself_meanwhile_are_skipped(site):
    paris = begun(site)
    store = store_of(paris)
    store.follower.stop()
    store.follower.join()
    with store.group.alone() as position:
        pass
    write(paris, 5)
    known = store.log.entries(store.group.writer.generation, position)
    write(site("lyon"), 6)
    both = store.log.entries(store.group.writer.generation, position)
    assert (len(known), len(both)) == (1, 2)
    assert store.group.absorb(known, position).n == position.n + 1
    assert store.group.absorb(both, position).n == position.n + 2
    assert sorted(numbers(paris)) == [1, 5, 6]
