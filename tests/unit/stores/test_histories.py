"""Histories of random transactions over several sites: each isolation level keeps its promise."""

import itertools
import random
import threading
import time

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from list_append import Txn, anomalies

from atoll.stores import group
from atoll.stores.store import open_store
from atoll.stores.url import ISOLATION, parse

META = sa.MetaData()
LISTS = sa.Table("lists", META, sa.Column("k", sa.String, primary_key=True), sa.Column("v", sa.String, nullable=False))
OTHER = sa.Table("other", META, sa.Column("k", sa.String, primary_key=True), sa.Column("v", sa.String, nullable=False))
KEYS = ("a", "b", "c")
_examples = itertools.count()


def txn(name, outcome="committed", reads=(), **appends):
    return Txn(name, [(key, tuple(seen)) for key, seen in reads], {key: list(values) for key, values in appends.items()}, outcome)


SKEW = [txn("1", reads=[("a", ""), ("b", "")], a="1"), txn("2", reads=[("a", ""), ("b", "")], b="2")]
READ_SKEW = [txn("1", a="1", b="1"), txn("2", reads=[("a", ""), ("b", "1")])]
FORK = [txn("1", a="1"), txn("2", b="2"), txn("3", reads=[("a", "1"), ("b", "")]), txn("4", reads=[("a", ""), ("b", "2")])]


@pytest.mark.parametrize(
    ("history", "final", "bad"),
    [
        ([txn("1", a="1"), txn("2", a="2", reads=[("a", "1")])], {"a": "12"}, ()),
        ([txn("1", a="1")], {"a": ""}, ISOLATION),
        ([txn("1", "failed", a="1")], {"a": "1"}, ISOLATION),
        ([txn("1", "unknown", a="1")], {"a": "1"}, ()),
        ([txn("1", a="1"), txn("2", reads=[("a", "2")], b="2")], {"a": "1", "b": "2"}, ISOLATION),
        ([txn("1", a="1", b="1"), txn("2", a="2", b="2")], {"a": "12", "b": "21"}, ISOLATION),
        (SKEW, {"a": "1", "b": "2"}, ("serializable",)),
        (READ_SKEW, {"a": "1", "b": "1"}, ("snapshot", "serializable")),
        (FORK, {"a": "1", "b": "2"}, ("snapshot", "serializable")),
    ],
    ids=["good", "lost", "failed", "unknown", "never", "order", "write skew", "read skew", "long fork"],
)
def test_the_check_finds_anomalies(history, final, bad):
    final = {key: tuple(values) for key, values in final.items()}
    assert [level for level in ISOLATION if anomalies(history, final, level)] == list(bad)


def only_deadlocks(error):
    if "deadlock" not in str(error):
        raise error


class Client:
    """A client of one site that notes what it sees."""

    def __init__(self, name, engine, level, keys):
        self.engine, self.level, self.keys = engine, level, keys
        self.name, self.numbers = name, itertools.count()
        self.history: list[Txn] = []
        self.connection = None

    def table(self, key):
        return LISTS if key != self.keys[-1] else OTHER

    def step(self, action, key):
        if action == "commit":
            return self.end(commit=True)
        if action == "rollback":
            return self.end(commit=False)
        if self.connection is None:
            self.connection = self.engine.connect()
            self.txn = Txn(f"{self.name}.{next(self.numbers)}")
            self.history.append(self.txn)
        try:
            if action != "append":
                self.read(key, lock=action == "modify" and self.level == "galera")
            if action != "read":
                self.append(key, blind=action == "append")
        except sa.exc.OperationalError as error:
            only_deadlocks(error)
            self.end(commit=False)
        return None

    def read(self, key, *, lock):
        table = self.table(key)
        query = sa.select(table.c.v).where(table.c.k == key)
        self.seen = self.connection.execute(query.with_for_update() if lock else query).scalar()
        seen = tuple(self.seen.split())
        own = self.txn.appends[key]
        assert list(seen[len(seen) - len(own) :]) == own, "a transaction does not see its own appends"
        self.txn.reads.append((key, seen[: len(seen) - len(own)]))

    def append(self, key, *, blind):
        table, value = self.table(key), f"{self.txn.name}.{next(self.numbers)}"
        new = table.c.v + f"{value} " if blind else f"{self.seen}{value} "
        self.connection.execute(table.update().where(table.c.k == key).values(v=new))
        self.txn.appends[key].append(value)

    def end(self, *, commit):
        if self.connection is None:
            return
        connection, self.connection = self.connection, None
        self.txn.outcome = "failed"
        try:
            if commit:
                connection.commit()
                self.txn.outcome = "committed"
        except sa.exc.OperationalError as error:
            only_deadlocks(error)
        finally:
            connection.close()


def begin(engine, keys):
    with engine.begin() as connection:
        connection.execute(LISTS.insert(), [{"k": key, "v": ""} for key in keys[:-1]])
        connection.execute(OTHER.insert(), [{"k": keys[-1], "v": ""}])


def finals(engines, keys):
    """Return the lists, which must be alike at all sites."""
    found = []
    for engine in engines:
        open_store(parse(engine.url)).catch_up()
        with engine.connect() as connection:
            rows = connection.execute(sa.union_all(sa.select(LISTS.c.k, LISTS.c.v), sa.select(OTHER.c.k, OTHER.c.v))).all()
        found.append({key: tuple(value.split()) for key, value in rows if key in keys})
    assert all(each == found[0] for each in found)
    return found[0]


steps = st.tuples(
    st.integers(0, 2), st.sampled_from(["read", "read", "append", "modify", "commit", "commit", "rollback", "news"]), st.sampled_from(KEYS)
)


@pytest.fixture(params=ISOLATION)
def sites(site, request):
    """Three sites that learn of each other only when told."""
    engines = [site(name, isolation=request.param) for name in ("paris", "lyon", "nice")]
    META.create_all(engines[0])
    for engine in engines:
        store = open_store(parse(engine.url))
        store.follower.stop()
        store.follower.join()
        store.catch_up()
    return request.param, engines


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, min_size=4, max_size=40))
def test_interleavings_of_three_sites(sites, script):
    level, engines = sites
    example = next(_examples)
    keys = [f"{example}{key}" for key in KEYS]
    begin(engines[0], keys)
    for engine in engines:
        open_store(parse(engine.url)).catch_up()
    clients = [Client(f"{example}.{place}", engine, level, keys) for place, engine in enumerate(engines)]
    try:
        for place, action, key in script:
            if action == "news":
                if clients[place].connection is None:
                    open_store(parse(engines[place].url)).catch_up()
            else:
                clients[place].step(action, f"{example}{key}")
        for client in clients:
            client.end(commit=True)
    finally:
        for client in clients:
            client.end(commit=False)
    history = [txn for client in clients for txn in client.history]
    assert anomalies(history, finals(engines, keys), level) == []


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
@pytest.mark.parametrize("level", ISOLATION)
def test_threads_at_three_sites(site, monkeypatch, level, slow):
    """Groups, conflicts and replays under load; slow transactions are set aside. The seed is fixed, the interleaving is not."""
    monkeypatch.setattr(group, "STALL_S", 0.0 if slow else 60.0)
    engines = [site(name, isolation=level) for name in ("paris", "lyon", "nice")]
    META.create_all(engines[0])
    begin(engines[0], KEYS)
    for engine in engines:
        open_store(parse(engine.url)).catch_up()
    clients = [Client(str(place), engines[place % 3], level, KEYS) for place in range(9)]
    until = time.monotonic() + 2

    def work(client, seed):
        choice = random.Random(seed)
        while time.monotonic() < until:
            for _ in range(choice.randint(1, 4)):
                client.step(choice.choice(["read", "append", "modify"]), choice.choice(KEYS))
                time.sleep(choice.random() / 50 if slow else 0)
            client.end(commit=choice.random() < 0.9)

    threads = [threading.Thread(target=work, args=(client, seed)) for seed, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = [txn for client in clients for txn in client.history]
    assert sum(txn.outcome == "committed" for txn in history) > 20
    assert anomalies(history, finals(engines, KEYS), level) == []
    metrics = [open_store(parse(engine.url)).metrics for engine in engines]
    assert max(each.largest_group for each in metrics) > 1
    assert (sum(each.set_aside for each in metrics) > 0) is slow
