"""A gateway whose site shares a database with other sites: lists, creations, and the time in which Redis is away."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from gateway_cloud import Cloud
from multidict import CIMultiDict
from redis import ConnectionError as Refused

from atoll.gateway.request.call import Call
from atoll.gateway.shared_database import SharedDatabase

GROUPS = {"paris": "paris", "lyon": "paris"}
TOKEN = {"X-Auth-Token": "t", "OpenStack-API-Version": "compute 2.90"}


def in_cloud(directory, act) -> None:
    async def main() -> None:
        cloud = Cloud(directory, "paris", "lyon", "nice")
        for name in ("paris", "lyon", "nice"):
            cloud[name].options = replace(cloud[name].options, groups=GROUPS)
        cloud["lyon"].services.servers = cloud["paris"].services.servers  # one Nova
        cloud["paris"].services.add_server("shared", "2026-01-01T00:00:00Z")
        cloud["nice"].services.add_server("own", "2026-01-02T00:00:00Z")
        async with cloud:
            await act(cloud)

    asyncio.run(main())


def asked(cloud: Cloud, site: str) -> Counter:
    return Counter(path for _method, path in cloud[site].services.requests)


@pytest.mark.parametrize(("site", "silent"), [("paris", "lyon"), ("lyon", "paris")])
def test_a_list_asks_one_site_of_a_group_and_shows_each_server_once(tmp_path, site, silent):
    async def act(cloud: Cloud) -> None:
        for query in ("", "?limit=1"):
            status, body, _headers = await cloud.ask(site, "GET", f"/compute/v2.1/servers{query}", headers=TOKEN)
            assert status == 200
            assert len(body["servers"]) == (1 if query else 2)
        assert not asked(cloud, silent)
        assert asked(cloud, "nice")

    in_cloud(tmp_path, act)


def test_a_site_outside_the_group_asks_one_of_its_sites(tmp_path):
    async def act(cloud: Cloud) -> None:
        _status, body, _headers = await cloud.ask("nice", "GET", "/compute/v2.1/servers", headers=TOKEN)
        assert sorted(each["name"] for each in body["servers"]) == ["own", "shared"]
        assert len([name for name in ("paris", "lyon") if asked(cloud, name)]) == 1

    in_cloud(tmp_path, act)


def test_no_site_of_the_group_is_missing_while_one_is_away(tmp_path):
    async def act(cloud: Cloud) -> None:
        cloud.set_state("lyon", "unreachable")
        for site in ("paris", "nice"):
            _status, body, headers = await cloud.ask(site, "GET", "/compute/v2.1/servers", headers=TOKEN)
            assert sorted(each["name"] for each in body["servers"]) == ["own", "shared"]
            assert "X-Atoll-Missing" not in headers

    in_cloud(tmp_path, act)


def test_a_server_in_the_zone_of_a_site_of_the_group_is_created_by_this_sites_nova(tmp_path):
    async def act(cloud: Cloud) -> None:
        for zone, site in (("lyon", "paris"), ("nice", "nice")):
            body = {"server": {"name": zone, "availability_zone": zone}}
            status, _made, headers = await cloud.ask("paris", "POST", "/compute/v2.1/servers", json=body, headers=TOKEN)
            assert (status, headers["X-Atoll-Site"]) == (202, site)

    in_cloud(tmp_path, act)


class Redis:
    """A double of the client of Redis."""

    answers = True

    def ping(self) -> bool:
        if not self.answers:
            raise Refused
        return True


@pytest.fixture
def database():
    url = "sqlite+redis://h/0/demo.paris.keystone?replicas=/x&cloud=demo&site=lyon"
    made = SharedDatabase(SimpleNamespace(site="lyon", groups=GROUPS, identity_database=url))
    made._client = Redis()
    return made


def call(method: str, path: str, service: str = "compute") -> Call:
    return Call(method, service, path, "", CIMultiDict(), None, "req-1")


def test_changes_are_refused_while_redis_is_away_and_reads_are_not(database):
    write = call("POST", "/v2.1/servers")
    assert database.refusal(write) is None
    Redis.answers = False
    try:
        assert not asyncio.run(database.look())
        reply = database.refusal(write)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        sentence = "site lyon can't reach the database that it shares with paris: it answers reads, and can change nothing"
        assert reply.json() == {"serviceUnavailable": {"code": 503, "message": sentence}}
        for allowed in (
            call("GET", "/v2.1/servers"),
            call("POST", "/v3/auth/tokens", "identity"),
            call("PUT", "/v2/images/i/file", "image"),
        ):
            assert database.refusal(allowed) is None
        assert database.refusal(call("DELETE", "/v3/auth/tokens", "identity")) is not None
    finally:
        Redis.answers = True
    assert asyncio.run(database.look())
    assert database.refusal(write) is None


def test_a_failure_is_explained_only_if_redis_is_away(database):
    write = call("POST", "/v2.0/networks", "network")
    assert asyncio.run(database.explain(write, 500)) is None
    Redis.answers = False
    try:
        assert asyncio.run(database.explain(write, 409)) is None
        assert asyncio.run(database.explain(call("GET", "/v2.0/networks", "network"), 500)) is None
        assert asyncio.run(database.explain(write, 500)).status == 503
    finally:
        Redis.answers = True


def test_many_failures_occupy_one_thread(database, monkeypatch):
    """Otherwise a user's changes could take all threads of the gateway while Redis is silent."""
    monkeypatch.setattr("atoll.gateway.shared_database.PATIENCE_S", 0.02)
    asked, answer = [], threading.Event()

    def ping() -> bool:
        asked.append(None)
        return answer.wait(30)

    monkeypatch.setattr(database._client, "ping", ping, raising=False)

    async def act() -> None:
        replies = await asyncio.gather(*(database.explain(call("POST", "/v2.1/servers"), 500) for _ in range(50)))
        assert [reply.status for reply in replies] == [503] * 50
        assert not await database.look()
        assert len(asked) == 1
        answer.set()
        await database._asked
        assert await database.look()
        assert len(asked) == 2

    asyncio.run(act())
