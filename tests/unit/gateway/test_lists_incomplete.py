"""Lists while a site is away: short, refused, or with a look-up that would be wrong."""

import asyncio
from dataclasses import replace

import pytest
from gateway_cloud import Cloud

from atoll.gateway.lists.incomplete import LOOK_UPS, looks_up


def run(directory, test, *, lists="partial", **parts):
    async def main():
        cloud = Cloud(directory, "paris", "lyon", "nice")
        cloud.parts = parts
        cloud["paris"].options = replace(cloud["paris"].options, lists=lists)
        async with cloud:
            cloud["paris"].services.add_server("here", "2026-01-01T00:00:00Z")
            cloud["nice"].services.add_server("there", "2026-01-02T00:00:00Z")
            cloud.set_state("lyon", "unreachable")
            await test(cloud)

    asyncio.run(main())


STRICT = {"X-Atoll-Strict": "1"}
LIST = "/compute/v2.1/servers"
LISTS = [
    LIST,
    f"{LIST}/detail",
    "/image/v2/images",
    "/network/v2.0/networks",
    "/compute/v2.1/os-availability-zone",
]
WHOLE = "the list would be incomplete: site lyon does not answer paris"


def message(body):
    inner = next(iter(body.values()))
    return inner["message"]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_is_short_or_refused_as_the_client_wants(tmp_path, path):
    async def test(cloud):
        status, _body, headers = await cloud.ask("paris", "GET", path)
        assert (status, headers["X-Atoll-Missing"]) == (200, "lyon")
        for asked in ({"path": path, "headers": STRICT}, {"path": f"/strict{path}"}):
            status, body, headers = await cloud.ask("paris", "GET", **asked)
            assert (status, message(body), headers["X-Atoll-Missing"]) == (503, WHOLE, "lyon")
        status, _body, _headers = await cloud.ask("paris", "GET", f"/strict{path}", headers={"X-Atoll-Strict": "0"})
        assert status == 200, "the header must override the URL"
        cloud.set_state("lyon", "alive")
        status, _body, headers = await cloud.ask("paris", "GET", path, headers=STRICT)
        assert status == 200
        assert "X-Atoll-Missing" not in headers

    run(tmp_path, test)


def test_a_strict_cloud_refuses_unless_the_client_wants_less(tmp_path):
    async def test(cloud):
        assert (await cloud.ask("paris", "GET", LIST))[0] == 503
        assert (await cloud.ask("paris", "GET", LIST, headers={"X-Atoll-Strict": "0"}))[0] == 200
        assert (await cloud.ask("nice", "GET", LIST))[0] == 200, "each site must use the setting of its own YAML"

    run(tmp_path, test, lists="strict")


@pytest.mark.parametrize("value", ["", "yes", "2", "1, 1"])
def test_another_value_is_refused(tmp_path, value):
    async def test(cloud):
        status, body, _headers = await cloud.ask("paris", "GET", LIST, headers={"X-Atoll-Strict": value})
        assert (status, message(body)) == (400, f"the X-Atoll-Strict header is {value!r}: expected 0 or 1")

    run(tmp_path, test)


def test_a_strict_url_stays_strict_in_catalogue_and_links(tmp_path):
    """The catalogue and the links keep it, also together with a scope."""

    async def test(cloud):
        for prefix in ("/strict", "/strict/scope/compute:paris"):
            _status, body, _headers = await cloud.ask("paris", "POST", f"{prefix}/identity/v3/auth/tokens", json={})
            (endpoint,) = body["token"]["catalog"][0]["endpoints"]
            assert endpoint["url"] == f"http://10.0.0.1:8080{prefix}/compute/v2.1"
        status, _body, _headers = await cloud.ask("paris", "GET", "/strict/scope/compute:paris/compute/v2.1/servers?limit=1")
        assert status == 200, "a scope of one reachable site must be answered"
        assert cloud["paris"].services.headers[-1]["X-Forwarded-Prefix"] == "/strict/scope/compute:paris/compute"

    run(tmp_path, test)


def test_requests_other_than_lists_are_unaffected_by_strictness(tmp_path):
    async def test(cloud):
        server = cloud["nice"].services.add_server("a", "2026-01-01T00:00:00Z")
        assert (await cloud.ask("paris", "GET", f"{LIST}/{server}", headers=STRICT))[0] == 200
        assert (await cloud.ask("paris", "POST", LIST, headers=STRICT, json={"server": {"name": "b"}}))[0] == 202

    run(tmp_path, test)


@pytest.mark.parametrize(
    "path",
    [
        f"{LIST}?name=db",
        f"{LIST}/detail?name=db&all_tenants=1",
        "/image/v2/images?name=db",
        "/image/v2/images?id=in:a,b",
        "/network/v2.0/networks?name=db",
        "/network/v2.0/networks?fields=id&id=x",
    ],
)
def test_a_look_up_that_finds_nothing_is_refused_while_a_site_is_away(tmp_path, path):
    async def test(cloud):
        cloud["nice"].services.network["networks"].clear()
        status, body, headers = await cloud.ask("paris", "GET", path)
        assert (status, headers["X-Atoll-Missing"]) == (503, "lyon")
        assert message(body) == "nothing is found, but site lyon does not answer paris and may have it"
        cloud.set_state("lyon", "alive")
        assert (await cloud.ask("paris", "GET", path))[0] == 200

    run(tmp_path, test)


def test_a_look_up_that_finds_something_is_answered(tmp_path):
    async def test(cloud):
        status, body, headers = await cloud.ask("paris", "GET", f"{LIST}?name=there")
        assert (status, len(body["servers"]), headers["X-Atoll-Missing"]) == (200, 1, "lyon")

    run(tmp_path, test)


def test_a_key_pair_that_nobody_has_who_answers_may_be_at_the_site_that_does_not(tmp_path):
    """A key pair's id is its name. A flavor's is not: clients send the name in its place, and then look through the list."""

    async def test(cloud):
        status, _body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/os-keypairs/laptop")
        assert (status, headers["X-Atoll-Missing"]) == (503, "lyon")
        status, _body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/flavors/m1.tiny")
        assert (status, headers["X-Atoll-Missing"]) == (404, "lyon")

    run(tmp_path, test)


def test_a_site_whose_service_fails_is_missing_too(tmp_path):
    async def test(cloud):
        from aiohttp import web

        cloud.set_state("lyon", "alive")
        cloud["lyon"].services.refuse = lambda _request: web.Response(status=500, text="{}")
        status, _body, headers = await cloud.ask("paris", "GET", f"{LIST}?name=db")
        assert (status, headers["X-Atoll-Missing"]) == (503, "lyon")

    run(tmp_path, test)


def test_a_site_that_has_no_such_service_is_not_missing(tmp_path):
    """A site without a network service, such as QoS, has none of its resources, so a look-up and a strict list succeed."""

    async def test(cloud):
        from aiohttp import web

        cloud.set_state("lyon", "alive")
        for without, shown in ((("lyon",), {"paris", "nice"}), (("paris",), {"lyon", "nice"}), (("paris", "lyon"), {"nice"})):
            for name in ("paris", "lyon", "nice"):
                cloud[name].services.network["networks"] = {name: {"id": name, "name": "db"}}
                cloud[name].services.refuse = lambda _request, name=name, without=without: (
                    web.json_response({"message": "no such path"}, status=404) if name in without else None
                )
            status, body, headers = await cloud.ask("paris", "GET", "/network/v2.0/networks", headers=STRICT)
            assert (status, {each["id"] for each in body["networks"]}, headers.get("X-Atoll-Missing")) == (200, shown, None)
        for name in ("paris", "lyon", "nice"):
            cloud[name].services.refuse = lambda _request: web.json_response({"message": "no such path"}, status=404)
        assert (await cloud.ask("paris", "GET", "/network/v2.0/networks?name=x", headers=STRICT))[0] == 404

    run(tmp_path, test)


def test_later_pages_look_nothing_up():
    assert looks_up("compute", [("name", "x")])
    assert not looks_up("compute", [("name", "x"), ("marker", "y")])
    assert not looks_up("compute", [("status", "ACTIVE")])
    assert not looks_up("identity", [("name", "x")])
    assert all("name" in names for names in LOOK_UPS.values())
