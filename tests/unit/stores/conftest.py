"""Fixtures for the tests of the store: one Redis server a file, and sites with replicas of their own."""

import itertools

import pytest
import redis_server
import sqlalchemy as sa
from sqlalchemy.dialects import registry

from atoll.stores import follower
from atoll.stores.store import close_stores

for name in ("redis", "rediss", "redis.sentinel", "sqlite.redis"):
    registry.register(name, "atoll.stores.dialect", "RedisDialect")

follower.BLOCK_MS = 50  # a follower that stops may wait so long
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server.running(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def log():
    """The name of a log of this test's own."""
    return f"test{next(_numbers)}"


@pytest.fixture
def site(server, log, tmp_path):
    """A function that returns the engine of a site, by the site's name and parameters of the URL."""
    engines = []

    def engine(name="paris", **parameters):
        url = server.url(tmp_path / f"{name}.db", log, name, **parameters)
        engines.append(sa.create_engine(url, pool_size=32))
        return engines[-1]

    yield engine
    for each in engines:
        each.dispose()
    close_stores()
