"""Servers of sites that are away, as Nova shows those of cells that are down."""

import asyncio
from contextlib import ExitStack, closing

import pytest
from aiohttp import web
from gateway_cloud import Cloud

from atoll.gateway.lists.server_cache import DELAY_S, CachedServer, ServerCache
from atoll.gateway.lists.unreachable_servers import UnreachableServers, plain
from atoll.gateway.request.requester import Requesters

LIST = "/compute/v2.1/servers"
NEW = {"OpenStack-API-Version": "compute 2.69"}
PEOPLE = {
    "u1": ("p1", ("member", "reader")),
    "u2": ("p2", ("member", "reader")),
    "admin": ("p0", ("admin", "member", "reader")),
    "guest": ("p1", ("auditor",)),
}


class WatchedCloud(Cloud):
    """A cloud whose records of servers of unreachable sites a test can see.

    Attributes:
        unreachable: the records of each site's gateway.
    """

    unreachable: list[UnreachableServers]


def run(directory, test, *, trusted=True):
    """Run a test in a cloud whose sites cache servers in files, which are closed in any case, as a failure must not fail later tests."""

    def away(site):
        seen = files.enter_context(closing(ServerCache(directory / f"{site.name}.db")))
        made.append(UnreachableServers(seen, Requesters(site.sites), site.sites, all_projects=trusted))
        return made[-1]

    async def main():
        cloud = WatchedCloud(directory, "paris", "lyon", "nice")
        cloud.parts = {"unreachable": away}
        with files:
            async with cloud:
                for name in ("paris", "lyon", "nice"):
                    cloud[name].services.people = PEOPLE
                cloud.unreachable = made
                await test(cloud)

    files = ExitStack()
    made: list[UnreachableServers] = []
    asyncio.run(main())


async def compared(cloud):
    """Wait until all lists that were answered have been compared with the caches."""
    async with asyncio.timeout(10):
        while any(each._tasks for each in cloud.unreachable):
            await asyncio.sleep(0.01)


def of(person, **more):
    return {"headers": NEW | {"X-Auth-Token": person} | more}


async def listed(cloud, person, path=LIST, version="2.69"):
    status, body, headers = await cloud.ask("paris", "GET", path, **of(person, **{"OpenStack-API-Version": f"compute {version}"}))
    assert status == 200, body
    return {item["id"]: item.get("status") for item in body["servers"]}, headers


@pytest.mark.parametrize("path", [LIST, f"{LIST}/detail", f"{LIST}/detail?deleted=False"])
def test_servers_of_a_site_that_is_away_are_listed(tmp_path, path):
    async def test(cloud):
        here = cloud["paris"].services.add_server("here", "2026-01-02T00:00:00Z")
        there = cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        newer = cloud["lyon"].services.add_server("newer", "2026-01-03T00:00:00Z")
        await listed(cloud, "u1", path)
        cloud.set_state("lyon", "unreachable")
        status, body, headers = await cloud.ask("paris", "GET", path, **of("u1"))
        assert (status, headers["X-Atoll-Missing"]) == (200, "lyon")
        assert [item["id"] for item in body["servers"]] == [newer, here, there]
        item = body["servers"][0]
        url = f"http://127.0.0.1:{cloud['paris'].public_port}/compute"
        links = [{"rel": "self", "href": f"{url}/v2.1/servers/{newer}"}, {"rel": "bookmark", "href": f"{url}/servers/{newer}"}]
        expected = {"id": newer, "name": "newer", "status": "UNKNOWN", "links": links}
        if "detail" in path:
            expected |= {"tenant_id": "p1", "created": "2026-01-03T00:00:00Z", "OS-EXT-AZ:availability_zone": "lyon"}
        assert item == expected
        assert ("status" in body["servers"][1]) == ("detail" in path)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "version"),
    [(LIST, "2.68"), (LIST, "2.1"), *((f"{LIST}?{each}", "2.69") for each in ("limit=5", "sort_key=uuid", "status=ACTIVE", "deleted=1"))],
)
def test_an_older_client_and_one_that_filters_get_none_of_them(tmp_path, path, version):
    async def test(cloud):
        cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        await listed(cloud, "u1")
        cloud.set_state("lyon", "unreachable")
        cloud["paris"].services.refuse = lambda request: (
            web.json_response({"servers": []}) if "servers" in request.path and request.query_string else None
        )
        assert (await listed(cloud, "u1", path, version))[0] == {}

    run(tmp_path, test)


def test_nobody_sees_servers_of_another_project(tmp_path):
    async def test(cloud):
        one = cloud["lyon"].services.add_server("one", "2026-01-01T00:00:00Z", "p1")
        two = cloud["lyon"].services.add_server("two", "2026-01-01T00:00:00Z", "p2")
        found, _headers = await listed(cloud, "admin", f"{LIST}/detail?all_tenants=1")
        assert set(found) == {one, two}
        cloud.set_state("lyon", "unreachable")
        for person, sees in (("u1", {one}), ("u2", {two}), ("admin", set()), ("stranger", set())):
            assert set((await listed(cloud, person))[0]) == sees, person
        assert set((await listed(cloud, "admin", f"{LIST}?all_tenants=1"))[0]) == {one, two}
        assert set((await listed(cloud, "u1", f"{LIST}?all_tenants=1"))[0]) == set(), (
            "a list that Nova refuses must not come from the cache"
        )
        for person, status in (("u1", 200), ("u2", 503), ("admin", 200), ("guest", 503), ("stranger", 503)):
            assert (await cloud.ask("paris", "GET", f"{LIST}/{one}", **of(person)))[0] == status, person

    run(tmp_path, test)


def test_administrators_whom_other_sites_do_not_take_see_no_more_while_those_are_away(tmp_path):
    async def test(cloud):
        one = cloud["lyon"].services.add_server("one", "2026-01-01T00:00:00Z", "p1")
        await listed(cloud, "u1")
        cloud.set_state("lyon", "unreachable")
        assert (await listed(cloud, "admin", f"{LIST}?all_tenants=1"))[0] == {}
        assert (await cloud.ask("paris", "GET", f"{LIST}/{one}", **of("admin")))[0] == 503
        assert (await cloud.ask("paris", "GET", f"{LIST}/{one}", **of("u1")))[0] == 200

    run(tmp_path, test, trusted=False)


def test_one_server_is_shown_with_what_is_known_of_it(tmp_path):
    async def test(cloud):
        there = cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        flavor = {"original_name": "m1.tiny", "vcpus": 1, "ram": 512, "disk": 1, "ephemeral": 0, "swap": 0}
        cloud["lyon"].services.servers[there] |= {"image": {"id": "i", "links": []}, "flavor": flavor | {"extra_specs": {"secret": "1"}}}
        path = f"{LIST}/{there}"
        assert (await cloud.ask("paris", "GET", path, **of("u1")))[1]["server"]["status"] == "ACTIVE"
        cloud.set_state("lyon", "unreachable")
        status, body, headers = await cloud.ask("paris", "GET", path, **of("u1"))
        assert (status, headers["X-Atoll-Missing"]) == (200, "lyon")
        url = f"http://127.0.0.1:{cloud['paris'].public_port}/compute"
        assert body["server"] == {
            "id": there,
            "name": "there",
            "status": "UNKNOWN",
            "tenant_id": "p1",
            "user_id": "of p1",
            "created": "2026-01-01T00:00:00Z",
            "links": [{"rel": "self", "href": f"{url}/v2.1/servers/{there}"}, {"rel": "bookmark", "href": f"{url}/servers/{there}"}],
            "image": {"id": "i", "links": [{"rel": "bookmark", "href": f"{url}/images/i"}]},
            "flavor": flavor,
            "OS-EXT-AZ:availability_zone": "lyon",
            "OS-EXT-STS:power_state": 0,
        }
        old = {"headers": {"X-Auth-Token": "u1"}}
        for asked in (("GET", path, old), ("DELETE", path, of("u1")), ("GET", f"{path}/os-interface", of("u1"))):
            assert (await cloud.ask("paris", asked[0], asked[1], **asked[2]))[0] == 503

    run(tmp_path, test)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_token_that_may_not_be_used_for_the_request_shows_nothing(tmp_path, status):
    """The token may have access rules, which only Nova's middleware applies."""

    async def test(cloud):
        there = cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        await listed(cloud, "u1")
        cloud.set_state("lyon", "unreachable")
        cloud["paris"].services.refuse = lambda request: web.json_response({}, status=status) if "/servers/" in request.path else None
        assert (await cloud.ask("paris", "GET", f"{LIST}/{there}", **of("u1")))[0] == 503

    run(tmp_path, test)


def test_a_gateway_that_was_restarted_still_knows_them(tmp_path):
    async def first(cloud):
        made.append(cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z"))
        await listed(cloud, "u1")

    async def second(cloud):
        cloud.set_state("lyon", "unreachable")
        assert (await listed(cloud, "u1"))[0] == {made[0]: "UNKNOWN"}
        assert (await cloud.ask("paris", "GET", f"{LIST}/{made[0]}", **of("u1")))[1]["server"]["status"] == "UNKNOWN"

    made: list[str] = []
    run(tmp_path, first)
    run(tmp_path, second)


@pytest.mark.parametrize("person", ["u1", "admin"])
def test_deleted_servers_leave_the_cache(tmp_path, person):
    """A complete list without the server, a deletion through this gateway, or a 404 for it removes it from the cache."""

    async def test(cloud):
        path = LIST if person == "u1" else f"{LIST}?all_tenants=1"
        servers = [cloud["lyon"].services.add_server(f"s{index}", "2026-01-01T00:00:00Z") for index in range(4)]
        foreign = cloud["lyon"].services.add_server("of another", "2026-01-01T00:00:00Z", "p2")
        await listed(cloud, "admin", f"{LIST}?all_tenants=1")
        del cloud["lyon"].services.servers[servers[0]]  # through another gateway
        await listed(cloud, person, path)
        assert (await cloud.ask("paris", "DELETE", f"{LIST}/{servers[1]}", **of("u1")))[0] == 204
        del cloud["lyon"].services.servers[servers[2]]
        assert (await cloud.ask("paris", "GET", f"{LIST}/{servers[2]}", **of("u1")))[0] == 404
        await compared(cloud)
        cloud.set_state("lyon", "unreachable")
        assert set((await listed(cloud, "admin", f"{LIST}?all_tenants=1"))[0]) == {servers[3], foreign}

    run(tmp_path, test)


@pytest.mark.parametrize("person", ["u2", "guest", "no token"])
def test_a_404_to_a_stranger_removes_no_server_from_the_cache(tmp_path, person):
    """Nova answers 404 to other projects: a tenant who knows the id could hide the server while its site is away."""

    async def test(cloud):
        there = cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        await listed(cloud, "u1", f"{LIST}/detail")
        hidden = cloud["lyon"].services.servers.pop(there)
        status, _body, _headers = await cloud.ask("paris", "GET", f"{LIST}/{there}", **of(person))
        assert status == 404
        cloud["lyon"].services.servers[there] = hidden
        cloud.set_state("lyon", "unreachable")
        assert (await listed(cloud, "u1"))[0] == {there: "UNKNOWN"}

    run(tmp_path, test)


def test_a_list_with_a_filter_or_a_page_makes_nothing_be_forgotten(tmp_path):
    async def test(cloud):
        servers = {cloud["lyon"].services.add_server(f"s{index}", f"2026-01-0{index + 1}T00:00:00Z") for index in range(4)}
        await listed(cloud, "u1")
        await listed(cloud, "u1", f"{LIST}?name=s1")
        await listed(cloud, "u1", f"{LIST}?limit=2")
        await compared(cloud)
        cloud.set_state("lyon", "unreachable")
        assert set((await listed(cloud, "u1"))[0]) == servers

    run(tmp_path, test)


def test_a_strict_client_is_still_refused(tmp_path):
    async def test(cloud):
        cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        await listed(cloud, "u1")
        cloud.set_state("lyon", "unreachable")
        assert (await cloud.ask("paris", "GET", LIST, **of("u1", **{"X-Atoll-Strict": "1"})))[0] == 503

    run(tmp_path, test)


def test_a_site_that_refuses_is_not_away(tmp_path):
    async def test(cloud):
        cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        await listed(cloud, "u1")
        for status, shown in ((401, 0), (403, 0), (500, 1), (503, 1)):
            cloud["lyon"].services.refuse = lambda request, status=status: (
                web.json_response({}, status=status) if "servers" in request.path else None
            )
            found, headers = await listed(cloud, "u1")
            assert (len(found), headers["X-Atoll-Missing"]) == (shown, "lyon")

    run(tmp_path, test)


def test_other_pages_lead_on_from_a_server_that_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.gateway.lists.paging.MAX_PAGE", 2)

    async def test(cloud):
        here = {cloud["paris"].services.add_server(f"h{index}", f"2026-01-0{index + 2}T00:00:00Z") for index in range(3)}
        away = cloud["lyon"].services.add_server("there", "2026-01-01T00:00:00Z")
        cloud["paris"].services.refuse = cloud["nice"].services.refuse = lambda _request: None
        await cloud.ask("paris", "GET", f"{LIST}/{away}", **of("u1"))
        cloud.set_state("lyon", "unreachable")
        _status, body, _headers = await cloud.ask("paris", "GET", LIST, **of("u1"))
        first = {item["id"] for item in body["servers"]}
        assert away in first
        path = "/compute" + body["servers_links"][0]["href"].partition("/compute")[2]
        _status, body, _headers = await cloud.ask("paris", "GET", path, **of("u1"))
        assert first | {item["id"] for item in body["servers"]} == here | {away}

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("query", "expected"),
    [([], True), ([("all_tenants", "1")], True), ([("deleted", "False")], True), ([("deleted", "true")], False), ([("marker", "")], False)],
)
def test_plain_lists(query, expected):
    assert plain(query) is expected


def server(identifier, site="lyon", project="p1", name="n", **more):
    return CachedServer(identifier, site, project, "u", name, "2026-01-01T00:00:00Z", **more)


def test_the_memory_is_bounded_by_project_and_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.gateway.lists.server_cache.MAX_OF_PROJECT", 3)
    monkeypatch.setattr("atoll.gateway.lists.server_cache.MAX_SERVERS", 5)

    async def test():
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            seen.put(server(f"a{index}") for index in range(6))
            seen.put([server("b0", project="p2")])
            assert {each.id for each in seen.of(["lyon"], "p1")} == {"a3", "a4", "a5"}
            seen.put(server(f"c{index}", project=f"p{index + 3}") for index in range(3))
            assert {each.id for each in seen.of(["lyon"], None)} <= {"a4", "a5", "b0", "c0", "c1", "c2"}
            seen.put([server("a0")])
            assert seen.get("a0") == server("a0"), "a removed server must be cached again when it is seen again"

    asyncio.run(test())


def test_the_memory_keeps_what_an_answer_does_not_say(tmp_path):
    async def test():
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            seen.put([server("a", image="i", flavor="{}")])
            seen.put([server("a", name="new")])
            assert seen.get("a") == server("a", name="new", image="i", flavor="{}")
            seen.put([server("a", image="")])
            assert seen.get("a") == server("a", image="", flavor="{}")
            seen.forget_site("lyon")
            assert seen.get("a") is None
            seen.put([server("a")])
            async with asyncio.timeout(10):
                while seen._timer is not None:
                    await asyncio.sleep(DELAY_S / 10)
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            assert seen.get("a") == server("a")

    asyncio.run(test())


@pytest.mark.parametrize("written", [True, False])
def test_a_site_is_not_believed_about_a_server_of_another_site_or_project(tmp_path, written):
    """A false statement would show one project another one's image and flavor, or hide the server."""

    async def test():
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            seen.put([server("a", image="i", flavor="{}")])
            if written:
                seen.flush()
            seen.put([server("a", site="nice", project="p2"), server("a", project="p2"), server("a", site="nice")])
            assert seen.get("a") == server("a", image="i", flavor="{}")

    asyncio.run(test())


def test_a_file_that_is_broken_is_made_anew(tmp_path):
    async def test():
        (tmp_path / "seen.db").write_bytes(b"no database" * 1000)
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            seen.put([server("a")])
            assert seen.get("a") == server("a")
        assert (tmp_path / "seen.db").stat().st_mode & 0o777 == 0o600

    asyncio.run(test())


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"id": "a", "name": "n", "links": []},
        {"id": "a", "name": "n", "created": "c", "tenant_id": "p", "user_id": "u", "status": "UNKNOWN"},
        {"id": "a", "name": "n", "created": "c", "tenant_id": "p", "user_id": "u", "status": "DELETED"},
        {"id": "a", "name": 5, "created": "c", "tenant_id": "p", "user_id": "u", "status": "ACTIVE"},
        {"id": "a", "name": {}, "created": "c", "tenant_id": "p", "user_id": "u", "status": "ACTIVE", "image": "x"},
        {"name": "n", "created": "c", "tenant_id": "p", "user_id": "u", "status": "ACTIVE"},
        None,
    ],
)
def test_servers_with_too_few_fields_are_not_cached(item, tmp_path):
    async def test():
        with closing(ServerCache(tmp_path / "seen.db")) as seen:
            seen.see("lyon", [item])
            assert seen.of(["lyon"], None) == []

    asyncio.run(test())
