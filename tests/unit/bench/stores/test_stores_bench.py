"""`atoll bench stores`: its report, its worker and its delay."""

import json
import socket
import threading
import time

import pytest
import sqlalchemy as sa

from atoll.bench.stores import experiment, redis_server, worker
from atoll.bench.stores.delay import delayed
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

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
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    with delayed(tmp_path / "echo", tmp_path / "proxy", 60) as proxy, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(proxy))
        client.sendall(b"warm")
        client.recv(100)
        began = time.monotonic()
        client.sendall(b"x")
        assert client.recv(100) == b"x"
        assert time.monotonic() - began >= 0.06
    thread.join()
    listener.close()


def test_the_report_has_medians_ratios_and_targets(tmp_path, monkeypatch):
    values = iter([0.1, 0.2, 0.4, 0.1] * 2)

    def measure(url, _seconds, _environment):
        assert url.startswith(("sqlite:///", "redis:///0?"))
        value = next(values)
        return dict.fromkeys(sorted(MEASURES), value)

    monkeypatch.setattr(experiment, "_measure", measure)
    monkeypatch.setattr(redis_server, "running", lambda directory: delayed(directory, tmp_path / "none", 0))
    report = experiment.run(experiment.StoreOptions((0, 50), 2, 1), Workspace(tmp_path, {}, lambda _: None))
    assert {key for key in report if key.startswith("redis_read_p")} == {
        "redis_read_p50_ms_0", "redis_read_p99_ms_0", "redis_read_p50_ms_50", "redis_read_p99_ms_50",
    }  # fmt: skip
    assert report["sqlite_read_p50_ms_0"] == 0.15
    table = experiment.rows(report, (0, 50))
    assert len(table) == 2 * len(MEASURES)
    assert ("writes_per_s_16", "50", "0.25", "0.25", ">= 200") in table


def test_a_worker_that_fails():
    with pytest.raises(AtollError, match="the worker that measures nonsense failed"):
        experiment._measure("nonsense", 1, {"PATH": ""})


def test_no_server_is_installed(monkeypatch):
    monkeypatch.setattr(redis_server.shutil, "which", lambda _name: None)
    with pytest.raises(AtollError, match="needs redis-server"):
        redis_server.check_requirements()
