"""The moments at which databases flush commits: the servers' own settings, and those that the engines render."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.services import Settings
from atoll.services.database_servers import FlushPolicy, flush_policy, redis_logs, relational
from atoll.services.engines import mariadb, postgresql, redis
from atoll.site import databases


def settings(engine, durability="full", root="/nowhere"):
    secrets = {"database": "secret"}
    return Settings("paris", root, root, "127.0.0.1", {}, secrets, engine=engine, durability=durability)


@contextmanager
def answering(values):
    """Have servers answer with the value of the option that a question names."""

    @contextmanager
    def connected(_settings):
        def execute(statement):
            option = statement.split()[-1].removeprefix("@@global.")
            return SimpleNamespace(scalar=lambda: values[option])

        yield SimpleNamespace(exec_driver_sql=execute)

    @contextmanager
    def translated(_settings):
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relational, "_connected", connected)
        patch.setattr(redis_logs, "_translated", translated)
        patch.setattr(redis_logs, "_redis", lambda _settings: SimpleNamespace(config_get=lambda name: {name: values[name]}))
        yield


@pytest.mark.parametrize(
    ("engine", "values", "expected"),
    [
        ("mariadb", {"innodb_flush_log_at_trx_commit": 1}, FlushPolicy("innodb_flush_log_at_trx_commit=1", each_commit=True)),
        ("mariadb", {"innodb_flush_log_at_trx_commit": 2}, FlushPolicy("innodb_flush_log_at_trx_commit=2", each_commit=False)),
        ("postgresql", {"fsync": "on", "synchronous_commit": "on"}, FlushPolicy("fsync=on, synchronous_commit=on", each_commit=True)),
        ("redis", {"appendonly": "yes", "appendfsync": "always"}, FlushPolicy("appendonly=yes, appendfsync=always", each_commit=True)),
        ("redis", {"appendonly": "no", "appendfsync": "always"}, FlushPolicy("appendonly=no, appendfsync=always", each_commit=False)),
    ],
)
def test_a_server_is_asked(engine, values, expected):
    with answering(values):
        assert databases.flush_policy(settings(engine)) == expected


@given(fsync=st.sampled_from(["on", "off"]), commit=st.sampled_from(["on", "local", "remote_write", "remote_apply", "off"]))
def test_postgresql_keeps_commits_only_with_both_settings(fsync, commit):
    with answering({"fsync": fsync, "synchronous_commit": commit}):
        assert flush_policy(settings("postgresql")).each_commit == (fsync == "on" and commit != "off")


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_sqlite_flushes_by_the_durability_of_its_site(durability):
    assert databases.flush_policy(settings("sqlite", durability)).each_commit == (durability == "full")


@pytest.mark.parametrize("durability", ["full", "relaxed"])
@pytest.mark.parametrize("engine", [mariadb, postgresql, redis], ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_engine_that_a_site_starts_flushes_by_the_durability(engine, durability, tmp_path):
    """The servers are started with settings that `flush_policy` then reports: engines are compared only if they agree."""
    text = "\n".join(engine.configuration(settings(engine.SERVICE.name, durability, tmp_path)).values())
    options = {}
    for line in text.splitlines():
        name, _separator, value = line.replace("=", " ").partition(" ")
        options[name] = value.strip().strip("'")
    with answering({"fsync": "on", **options}):
        assert flush_policy(settings(engine.SERVICE.name)).each_commit == (durability == "full")
