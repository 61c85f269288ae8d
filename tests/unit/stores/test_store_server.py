from pathlib import Path

import pytest

from atoll.stores.errors import NotDurable, WrongServer
from atoll.stores.server import check_information
from atoll.stores.url import Settings

GOOD = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction"}


def settings(**more):
    return Settings(replica=Path("/x"), log="nova", cloud="demo", site="paris", **more)


@pytest.mark.parametrize(
    "version", [{"redis_version": "6.2.0"}, {"redis_version": "8.0.1"}, {"redis_version": "7.2.4", "valkey_version": "9.1.2"}]
)
def test_usable_servers(version):
    check_information({**GOOD, **version}, "always", settings())


@pytest.mark.parametrize(
    ("change", "fsync", "error", "message"),
    [
        ({"redis_version": "6.0.16"}, "always", WrongServer, "Redis 6.0.16 is too old for a log: install Redis 6.2 or later"),
        ({"maxmemory_policy": "allkeys-lru"}, "always", WrongServer, "allkeys-lru, which may evict the log"),
        ({"aof_enabled": 0}, "always", NotDurable, "set appendonly to yes"),
        ({}, "everysec", NotDurable, "appendfsync is everysec"),
        ({}, None, NotDurable, "does not reveal its appendfsync"),
    ],
)
def test_unusable_servers(change, fsync, error, message):
    with pytest.raises(error) as raised:
        check_information({**GOOD, **change}, fsync, settings())
    assert message in str(raised.value)
    assert str(raised.value).startswith("127.0.0.1:6379/0: ")


def test_relaxed_durability():
    check_information(GOOD, "everysec", settings(durability="relaxed"))
    with pytest.raises(NotDurable):
        check_information({**GOOD, "aof_enabled": 0}, None, settings(durability="relaxed"))
