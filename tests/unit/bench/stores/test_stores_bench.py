"""`atoll bench stores`: its report, its worker and its delay."""

import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from atoll.bench.stores import boots, engine, experiment, worker
from atoll.bench.stores.boots import BootingSite
from atoll.bench.stores.delay import delayed
from atoll.bench.stores.engine import ENGINES, Engine
from atoll.bench.workspace import Workspace
from atoll.cloud.databases import ENGINES as SCHEMES
from atoll.errors import AtollError
from atoll.services import engines
from atoll.stores.store import close_stores

MEASURES = {"read_p50_ms", "read_p99_ms", "write_p50_ms", "write_p99_ms", "writes_per_s_1", "writes_per_s_16"}


def test_the_worker_measures_an_engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/x.db?plugin=atoll")
    found = worker.measure(engine, 0.4, 16)
    assert set(found) == MEASURES
    assert all(value > 0 for value in found.values())
    assert found["read_p50_ms"] <= found["read_p99_ms"]
    engine.dispose()


def test_the_worker_prints_json(tmp_path, capsys):
    worker.main(f"sqlite:///{tmp_path}/x.db?plugin=atoll", "0.2", "2")
    assert "writes_per_s_2" in json.loads(capsys.readouterr().out)


def test_quantiles():
    times = worker.Times([0.004, 0.001, 0.002, 0.003], 2.0)
    assert (times.quantile_ms(0.5), times.quantile_ms(0.99), times.per_second()) == (3.0, 4.0, 2.0)


def test_the_delay(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "echo"))
    listener.listen()

    def echo():
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(100):
                    connection.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    link = tmp_path / "link"
    with delayed(tmp_path / "echo", link) as distance:
        assert link.readlink() == tmp_path / "echo", "without a distance, clients must connect to the server itself"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(link))
            client.sendall(b"x")
            assert client.recv(100) == b"x"
        distance.set(0.001)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(link))
            client.sendall(b"warm")
            assert client.recv(100) == b"warm"
            distance.set(60)
            began = time.monotonic()
            client.sendall(b"x")
            assert client.recv(100) == b"x"
            assert time.monotonic() - began >= 0.06
    thread.join()
    listener.close()


def read_write_once(url):
    made = sa.create_engine(url)
    with made.begin() as connection:
        connection.execute(sa.text("create table t (n integer primary key)"))
        connection.execute(sa.text("insert into t values (1)"))
    with made.connect() as connection:
        found = connection.execute(sa.text("select n from t")).scalar()
    made.dispose()
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_serves_at_any_distance_and_ends(name, tmp_path_factory):
    if name in engines.SERVERS and engines.obstacle(name)[0]:
        pytest.skip(engines.obstacle(name)[0])
    root = tmp_path_factory.mktemp("e")
    with engine.running(name, Workspace(root, dict(os.environ), lambda _: None)) as running:
        assert read_write_once(running.url("near")) == 1
        running.move(1)
        assert read_write_once(running.url("far")) == 1
        place = running.place()
        assert place.engine == name
        assert "measured" not in str(place), "the password belongs in the file"
        close_stores()
    assert running.pids() == [] or running.server.poll() is not None


def test_an_engine_that_fails_to_start_says_why(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(engine.sys, "executable", "/bin/false")
    with (
        pytest.raises(AtollError, match="redis did not start: without a message"),
        engine.running("redis", Workspace(tmp_path_factory.mktemp("e"), {}, lambda _: None)),
    ):
        pass


@contextmanager
def fake_engine(name, _work):
    yield SimpleNamespace(name=name, move=lambda _ms: None, url=lambda database: f"{name}:///{database}")


class FakeSite:
    """A site that boots servers in 2 s on Redis and in 1 s elsewhere, and fails on PostgreSQL far from its server."""

    def __init__(self, engine, _work):
        self.name = engine.name

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def measure(self, count, milliseconds):
        failed = self.name == "postgresql" and milliseconds
        return {"boot_s": None if failed else 2.0 if self.name == "redis" else 1.0, "boot_failures": int(bool(failed))}


def test_the_report_has_medians_ratios_and_targets(tmp_path, monkeypatch):
    values = iter([0.1, 0.2, 0.4, 0.1] * 4)

    def measure(url, _seconds, _environment):
        return dict.fromkeys(sorted(MEASURES), next(values))

    monkeypatch.setattr(experiment, "measure", measure)
    monkeypatch.setattr(experiment, "running", fake_engine)
    monkeypatch.setattr(experiment, "BootingSite", FakeSite)
    report = experiment.run(experiment.StoreOptions((0, 50), 2, 1, boots=2), Workspace(tmp_path, {}, lambda _: None))
    assert {key for key in report if key.startswith("redis_read_p")} == {
        "redis_read_p50_ms_0", "redis_read_p99_ms_0", "redis_read_p50_ms_50", "redis_read_p99_ms_50",
    }  # fmt: skip
    assert (report["sqlite_read_p50_ms_0"], report["mariadb_read_p50_ms_0"]) == (0.1, 0.3)
    assert (report["redis_read_ratio_0"], report["redis_boot_ratio_0"]) == (3.0, 2.0)
    assert (report["postgresql_boot_s_0"], report["postgresql_boot_s_50"]) == (1.0, None)
    table = experiment.rows(report, (0, 50))
    assert len(table) == 2 * (len(MEASURES) + 2)
    assert ("writes_per_s_16", "50", "0.1", "0.3", "0.3", "0.1", "redis >= 200") in table
    assert ("boot_s", "50", "1", "2", "1", "", "") in table


class Apis:
    """The site of `BootingSite`, whose boots take as many seconds as the distance in milliseconds."""

    def __init__(self, *_arguments):
        self.done = []

    def up(self, _count):
        self.done.append("up")

    def stop(self):
        self.done.append("stop")

    def destroy(self):
        self.done.append("destroy")

    def target(self):
        return SimpleNamespace(api=lambda: SimpleNamespace(sign_in=lambda: None))

    def pids(self):
        return []


def test_a_site_is_restarted_only_when_its_connections_must_change(tmp_path, monkeypatch):
    apis, distance, deleted = Apis(), [], []
    monkeypatch.setattr(boots, "Sites", lambda *_arguments: apis)
    monkeypatch.setattr(boots.workload, "prepare", lambda _api: None)
    monkeypatch.setattr(boots.workload, "boot", lambda _api, _tenancy, name, _poll_s: (name, distance[-1]))
    monkeypatch.setattr(boots.workload, "delete", lambda _api, servers: deleted.extend([(distance[-1], each) for each in servers]))
    far = Engine(
        "redis", SimpleNamespace(directory=tmp_path, server="redis://atoll:x@localhost/0?socket=/x"), SimpleNamespace(set=distance.append)
    )
    with BootingSite(far, Workspace(tmp_path, {}, lambda _: None)) as site:
        assert site.measure(2, 0)["boot_s"] == 0
        assert site.measure(2, 10)["boot_s"] == 10
        assert site.measure(2, 50)["boot_s"] == 50
        assert site.measure(1, 0)["boot_s"] == 0
    assert apis.done == ["up", "stop", "up", "stop", "up", "destroy"]
    assert all(milliseconds <= boots.TINY_MS for milliseconds, _server in deleted), "servers must be deleted without a distance"


def test_a_boot_that_fails_is_counted_and_leaves_no_distance(tmp_path, monkeypatch):
    distance = []
    monkeypatch.setattr(boots, "Sites", Apis)
    monkeypatch.setattr(boots.workload, "prepare", lambda _api: None)
    monkeypatch.setattr(boots.workload, "boot", lambda *_arguments: ("server", 1.0))
    monkeypatch.setattr(boots.workload, "delete", lambda _api, _servers: None)
    with BootingSite(Engine("sqlite", SimpleNamespace()), Workspace(tmp_path, {}, lambda _: None)) as site:
        site._engine = SimpleNamespace(name="mariadb", distance=True, move=distance.append, pids=list)

        def refuse(*_arguments):
            raise AtollError("bench.failed", "server boot-1 went to ERROR")

        monkeypatch.setattr(boots.workload, "boot", refuse)
        assert site.measure(1, 50) == {"boot_s": None, "boot_cpu_s": None, "memory_mb": 0, "boot_failures": 1}
        assert distance[-1] == boots.TINY_MS


def test_a_worker_that_fails():
    with pytest.raises(AtollError, match="the worker that measures nonsense failed"):
        experiment.measure("nonsense", 1, {"PATH": ""})


def test_a_missing_engine_is_named(monkeypatch):
    monkeypatch.setattr(
        engines, "obstacle", lambda name: ("mariadbd is not installed", "sudo apt-get install x") if name == "mariadb" else ("", "")
    )
    with pytest.raises(AtollError, match="the comparison needs mariadb: mariadbd is not installed"):
        engine.check_requirements()


def test_every_engine_of_a_site_is_measured():
    assert set(ENGINES) == {"sqlite", *SCHEMES.values()} == {"sqlite", *engines.SERVERS}
