"""Whole gateways at several sites, with doubles of the services."""

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from gateway_cloud import Cloud, own_token
from no_parts import NoBringer

from atoll.gateway.copies.replicas import ReplicatedResources


@dataclass(frozen=True)
class Reference:
    id: str


def run(directory: Path, test, *names: str, **parts) -> None:
    async def main() -> None:
        cloud = Cloud(directory, *(names or ("paris", "lyon", "nice")))
        cloud.parts = parts
        async with cloud:
            await test(cloud)

    asyncio.run(main())


def test_a_local_resource_costs_no_request_to_another_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["paris"].services.add_server("a", "2026-01-01T00:00:00Z")
        status, body, headers = await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}")
        assert (status, body["server"]["where"], headers["X-Atoll-Site"]) == (200, "paris", "paris")
        status, body, _ = await cloud.ask("paris", "POST", "/compute/v2.1/servers", json={"server": {"name": "b"}})
        assert status == 202
        made = body["server"]["id"]
        assert (await cloud.ask("paris", "DELETE", f"/compute/v2.1/servers/{made}"))[0] == 204
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{made}"))[0] == 404
        assert cloud["lyon"].services.requests == cloud["nice"].services.requests == []

    run(tmp_path, test)


def test_a_resource_of_another_site_is_found_and_its_site_remembered(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        for _ in range(2):
            status, body, headers = await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}")
            assert (status, body["server"]["where"], headers["X-Atoll-Site"]) == (200, "lyon", "lyon")
        assert len(cloud["nice"].services.requests) == 1
        assert (await cloud.ask("paris", "DELETE", f"/compute/v2.1/servers/{server}"))[0] == 204
        assert not cloud["lyon"].services.servers
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 404
        assert len(cloud["nice"].services.requests) == 1

    run(tmp_path, test)


def test_a_change_of_what_is_elsewhere_is_made_once(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        status, _body, _ = await cloud.ask("paris", "POST", f"/compute/v2.1/servers/{server}/action", json={"reboot": {"type": "HARD"}})
        assert status == 200
        assert [each for each in cloud["lyon"].services.requests if each[0] == "POST"] == [
            ("POST", f"/compute/v2.1/servers/{server}/action")
        ]
        assert not [each for each in cloud["nice"].services.requests if each[0] == "POST"]

    run(tmp_path, test)


def test_nobody_has_it(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        path = f"/compute/v2.1/servers/{uuid.uuid4()}"
        assert (await cloud.ask("paris", "GET", path))[0] == 404
        cloud.set_state("lyon", "unreachable")
        status, body, headers = await cloud.ask("paris", "GET", path)
        assert (status, headers["X-Atoll-Missing"]) == (503, "lyon")
        assert body["serviceUnavailable"]["message"] == "site lyon can't be reached from paris"
        # A name is not an id: the first look-up of a client must not fail because another site is unreachable.
        assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers/web"))[0] == 404

    run(tmp_path, test)


def test_a_resource_deleted_here_is_404_even_if_another_site_is_away(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["paris"].services.add_server("a", "2026-01-01T00:00:00Z")
        cloud.set_state("lyon", "unreachable")
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 200
        assert (await cloud.ask("paris", "DELETE", f"/compute/v2.1/servers/{server}"))[0] == 204
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 404

    run(tmp_path, test)


def test_a_zone_names_the_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for zone in ("lyon", "lyon:host-1"):
            body = {"server": {"name": "a", "availability_zone": zone}}
            status, answer, headers = await cloud.ask("paris", "POST", "/compute/v2.1/servers", json=body)
            assert (status, headers["X-Atoll-Site"]) == (202, "lyon")
            assert answer["server"]["id"] in cloud["lyon"].services.servers
        body = {"network": {"name": "n", "availability_zone_hints": ["nice"]}}
        status, answer, _ = await cloud.ask("paris", "POST", "/network/v2.0/networks", json=body)
        assert status == 201
        assert cloud["nice"].services.network["networks"] == {answer["network"]["id"]: {"id": answer["network"]["id"], "name": "n"}}
        assert not cloud["paris"].services.requests

    run(tmp_path, test)


def test_a_part_is_made_where_the_whole_is(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        network = str(uuid.uuid4())
        cloud["nice"].services.network["networks"][network] = {"id": network}
        status, body, headers = await cloud.ask("paris", "POST", "/network/v2.0/ports", json={"port": {"network_id": network}})
        assert (status, headers["X-Atoll-Site"]) == (201, "nice")
        assert body["port"]["id"] in cloud["nice"].services.network["ports"]
        assert (await cloud.ask("paris", "POST", "/network/v2.0/ports", json={"port": {"network_id": str(uuid.uuid4())}}))[0] == 404

    run(tmp_path, test)


def test_lists_are_the_union(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for index, site in enumerate(("paris", "lyon", "nice", "lyon", "paris")):
            cloud[site].services.add_server(f"s{index}", f"2026-01-0{index + 1}T00:00:00Z")
        status, body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/servers/detail")
        assert status == 200
        assert [each["name"] for each in body["servers"]] == ["s4", "s3", "s2", "s1", "s0"]
        assert headers["X-Atoll-Site"] == "paris,lyon,nice"
        assert headers["OpenStack-API-Version"] == "compute 2.1"
        _, body, _ = await cloud.ask("paris", "GET", "/compute/v2.1/servers?sort_key=display_name&sort_dir=asc")
        assert [sorted(each) for each in body["servers"]] == [["id", "links", "name"]] * 5
        assert [each["name"] for each in body["servers"]] == ["s0", "s1", "s2", "s3", "s4"]

    run(tmp_path, test)


def test_when_servers_were_made_is_asked_once(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for index, site in enumerate(("lyon", "paris", "lyon")):
            cloud[site].services.add_server(f"s{index}", f"2026-01-0{index + 1}T00:00:00Z")
        for new in (None, "2026-01-09T00:00:00Z"):
            if new:
                cloud["lyon"].services.add_server("s9", new)
            _, first, _ = await cloud.ask("paris", "GET", "/compute/v2.1/servers")
            for site in ("paris", "lyon"):
                cloud[site].services.requests.clear()
            _, again, _ = await cloud.ask("paris", "GET", "/compute/v2.1/servers")
            assert again == first
            assert [each["name"] for each in again["servers"]] == ["s9"] * bool(new) + ["s2", "s1", "s0"]
            assert [sorted(each) for each in again["servers"]] == [["id", "links", "name"]] * len(again["servers"])
            for site in ("paris", "lyon"):
                assert not [path for _method, path in cloud[site].services.requests if "detail" in path]

    run(tmp_path, test)


def test_pages_are_those_of_one_site_with_all(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for index in range(23):
            cloud[("paris", "lyon", "nice")[index * 7 % 3]].services.add_server(f"s{index:02}", f"2026-01-{index + 1:02}T00:00:00Z")
        seen: list[str] = []
        path = "/compute/v2.1/servers?limit=5"
        while path:
            _, body, _ = await cloud.ask("paris", "GET", path)
            seen += [each["name"] for each in body["servers"]]
            href = next((each["href"] for each in body.get("servers_links", ())), "")
            path = href.partition(str(cloud["paris"].public_port))[2]
        assert seen == [f"s{index:02}" for index in reversed(range(23))]
        # A marker that is not in the gateway's cache.
        marker = next(
            key for site in ("paris", "lyon", "nice") for key, each in cloud[site].services.servers.items() if each["name"] == "s11"
        )
        _, body, _ = await cloud.ask("lyon", "GET", f"/compute/v2.1/servers/detail?limit=3&marker={marker}")
        assert [each["name"] for each in body["servers"]] == ["s10", "s09", "s08"]
        assert (await cloud.ask("lyon", "GET", f"/compute/v2.1/servers?limit=3&marker={uuid.uuid4()}"))[0] == 400

    run(tmp_path, test)


def test_a_list_says_who_is_missing(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        cloud["paris"].services.add_server("a", "2026-01-01T00:00:00Z")
        cloud["lyon"].services.add_server("b", "2026-01-01T00:00:00Z")
        cloud.set_state("lyon", "unreachable")
        status, body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/servers")
        assert (status, headers["X-Atoll-Missing"], headers["X-Atoll-Site"]) == (200, "lyon", "paris,nice")
        assert [each["name"] for each in body["servers"]] == ["a"]
        _, body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/os-availability-zone")
        assert {each["zoneName"]: each["zoneState"]["available"] for each in body["availabilityZoneInfo"]} == {
            "paris": True,
            "nice": True,
            "lyon": False,
        }

    run(tmp_path, test)


def test_copies_are_listed_once(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        cloud["lyon"].services.images |= {
            "x": {"id": "x", "name": "x", "created_at": "2026-01-02"},
            "y": {"id": "y", "created_at": "2026-01-01"},
        }
        cloud["paris"].services.images["x"] = {"id": "x", "name": "x", "created_at": "2026-01-05"}
        cloud["paris"].services.images["z"] = {"id": "z", "created_at": "2026-01-03"}
        _, body, _ = await cloud.ask("paris", "GET", "/image/v2/images")
        assert [(each["id"], each["created_at"]) for each in body["images"]] == [
            ("z", "2026-01-03"),
            ("x", "2026-01-02"),
            ("y", "2026-01-01"),
        ]
        _, body, _ = await cloud.ask("paris", "GET", "/image/v2/images?limit=1&marker=z")
        assert [each["id"] for each in body["images"]] == ["x"]
        assert body["next"] == "/v2/images?limit=1&marker=x"

    run(tmp_path, test)


def test_fields_of_networks(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for site in ("paris", "lyon"):
            cloud[site].services.network["networks"] = {"n": {"id": "n", "name": "net", "mtu": 1500}}
        cloud["lyon"].services.network["networks"]["m"] = {"id": "m", "name": "other", "mtu": 1500}
        _, body, _ = await cloud.ask("paris", "GET", "/network/v2.0/networks?fields=name")
        assert body["networks"] == [{"name": "other"}, {"name": "net"}]
        _, body, _ = await cloud.ask("paris", "GET", "/network/v2.0/networks?limit=1")
        assert [each["id"] for each in body["networks"]] == ["m"]
        assert [each["rel"] for each in body["networks_links"]] == ["next", "previous"]

    run(tmp_path, test)


def test_images_pass_without_being_held(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        _, body, _ = await cloud.ask("paris", "POST", "/image/v2/images", json={"name": "i"})
        size = 32 << 20

        async def pieces():
            for _ in range(size >> 16):
                yield b"y" * (1 << 16)

        url = f"http://127.0.0.1:{cloud['paris'].public_port}/image/v2/images/{body['id']}/file"
        expected = f"{size}:{hashlib.sha256(b'y' * size).hexdigest()}"
        for headers in ({}, {"Content-Length": str(size)}, {"Expect": "100-continue"}):
            async with cloud.session.put(
                url, data=pieces(), headers={"Content-Type": "application/octet-stream", "X-Auth-Token": "t"} | headers
            ) as response:
                assert response.status == 204
            assert cloud["paris"].services.data.pop(body["id"]) == expected
        # Through another gateway, which does not know the image.
        url = url.replace(str(cloud["paris"].public_port), str(cloud["lyon"].public_port))
        with_token = {"Content-Type": "application/octet-stream", "X-Auth-Token": "t"}
        async with cloud.session.put(url, data=pieces(), headers=with_token) as response:
            assert response.status == 204
        assert cloud["paris"].services.data[body["id"]] == expected
        received = 0
        async with cloud.session.get(url) as response:
            async for piece in response.content.iter_any():
                received += len(piece)
        assert received == 64 << 20

    run(tmp_path, test)


def test_scopes(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        cloud["nice"].services.add_server("b", "2026-01-02T00:00:00Z")
        scoped = {"X-Scope": "{compute: lyon}"}
        _, body, _ = await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers=scoped)
        assert [each["name"] for each in body["servers"]] == ["a"]
        _, body, headers = await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers={"X-Scope": "{compute: lyon || nice}"})
        assert [each["name"] for each in body["servers"]] == ["b", "a"]
        status, _, headers = await cloud.ask("paris", "POST", "/compute/v2.1/servers", headers=scoped, json={"server": {"name": "c"}})
        assert (status, headers["X-Atoll-Site"]) == (202, "lyon")
        status, body, _ = await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers={"X-Scope": "{compute: rome}"})
        assert status == 400
        assert "rome" in body["badRequest"]["message"]
        _, body, _ = await cloud.ask("paris", "POST", "/scope/%7Bcompute:%20lyon%7D/identity/v3/auth/tokens", json={})
        assert body["token"]["catalog"][0]["endpoints"][0]["url"].endswith("/scope/compute:lyon/compute/v2.1")

    run(tmp_path, test)


def test_a_site_that_hangs_fails_within_two_seconds(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 200
        await cloud["lyon"].server._peer_runner.cleanup()
        writers = []
        hung = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
        port = hung.sockets[0].getsockname()[1]
        table = cloud["paris"].mesh.table
        table["lyon"] = replace(table["lyon"], peer_port=port)
        begin = time.monotonic()
        status, body, _ = await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}")
        assert status == 503
        assert "lyon" in body["serviceUnavailable"]["message"]
        assert time.monotonic() - begin < 2
        begin = time.monotonic()
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 503
        assert time.monotonic() - begin < 0.2
        assert ("lyon", False) in cloud["paris"].mesh.reports
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        hung.close()

    run(tmp_path, test)


def test_a_slow_site_that_is_there_is_waited_for(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        handle = cloud["lyon"].services.compute

        async def slow(*arguments):
            await asyncio.sleep(1.5)
            return await handle(*arguments)

        cloud["lyon"].services.compute = slow
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 200

    run(tmp_path, test, "paris", "lyon")


def test_needed_resources_are_brought_and_the_request_is_sent_again(tmp_path: Path) -> None:
    class Bringer(NoBringer):
        def __init__(self, site) -> None:
            super().__init__()
            self.services = site.services
            self.brought: list[str] = []

        async def after(self, call):
            if self.brought:
                return None
            self.brought.append(call.json()["server"]["imageRef"])
            self.services.refuse = lambda _request: None
            return self

        async def undo(self) -> None:
            self.brought.clear()

        def keep(self) -> None:
            """Keep the resources that were brought."""

    async def test(cloud: Cloud) -> None:
        bringer = cloud["lyon"].parts["bringer"]
        refusal = aiohttp.web.json_response

        def refuse(request):
            return refusal({"badRequest": {"code": 400, "message": "no image"}}, status=400) if request.method == "POST" else None

        cloud["lyon"].services.refuse = refuse
        body = {"server": {"name": "a", "imageRef": "i", "availability_zone": "lyon"}}
        assert (await cloud.ask("paris", "POST", "/compute/v2.1/servers", json=body))[0] == 202
        assert bringer.brought == ["i"]
        cloud["lyon"].services.refuse = refuse
        assert (await cloud.ask("paris", "POST", "/compute/v2.1/servers", json=body))[0] == 400

    run(tmp_path, test, bringer=Bringer)


@pytest.mark.parametrize("query", ["", "?limit=1", "?sort_key=created_at&sort_dir=asc"])
def test_list_that_access_rules_allow_is_merged_though_they_forbid_what_merging_needs(tmp_path: Path, query: str) -> None:
    """Merge brief lists although the gateway must ask for details, which an access rule for `/v2.1/servers` forbids."""
    rules = {"application_credential": {"access_rules": []}, "user": {"id": "u"}, "project": {"id": "p1"}, "roles": [{"name": "reader"}]}

    def refuse(allowed: str) -> Callable[[web.Request], web.Response | None]:
        def answer(request: web.Request) -> web.Response | None:
            if request.headers.get("X-Subject-Token") == "limited":
                return web.json_response({"token": rules})
            if request.headers.get("X-Auth-Token") == "limited" and not request.path.endswith(allowed):
                return web.json_response({"error": {"code": 401, "message": "no rule"}}, status=401)
            return None

        return answer

    async def test(cloud: Cloud) -> None:
        for number, site in enumerate(("paris", "lyon", "nice")):
            services = cloud[site].services
            services.refuse = refuse("/servers")
            services.people = {"limited": ("p1", ("reader",)), own_token("gateway_compute"): ("service", ("gateway_compute",))}
            services.add_server(site, f"2026-01-0{number + 1}T00:00:00Z")
            services.add_server(f"theirs at {site}", "2026-01-09T00:00:00Z", project="p2")
        names, path = [], f"/compute/v2.1/servers{query}"
        while path:
            status, body, _headers = await cloud.ask("nice", "GET", path, headers={"X-Auth-Token": "limited"})
            assert status == 200
            names += [each["name"] for each in body["servers"]]
            assert all(set(each) == {"id", "name", "links"} for each in body["servers"]), (
                "the answer must show only the fields that the client requested"
            )
            links = body.get("servers_links")
            path = urlsplit(links[0]["href"]).path + "?" + urlsplit(links[0]["href"]).query if links else ""
        assert names == (["paris", "lyon", "nice"] if "asc" in query else ["nice", "lyon", "paris"])
        for site in ("paris", "lyon", "nice"):
            cloud[site].services.refuse = refuse("/flavors")
        assert (await cloud.ask("nice", "GET", f"/compute/v2.1/servers{query}", headers={"X-Auth-Token": "limited"}))[0] == 401

    run(tmp_path, test)


def test_changes_of_copies_go_to_all(tmp_path: Path) -> None:
    class Replicator:
        answer, _is_meant, _may_know = ReplicatedResources.answer, ReplicatedResources._is_meant, ReplicatedResources._may_know

        def __init__(self, site) -> None:
            self.site = site
            self._sites = site.sites
            self.creator = self
            self.asked: list[tuple[str, list[str]]] = []

        async def everywhere(self, call, sites, scope=None):
            self.asked.append((f"{call.method} {call.path}" + (f" in {scope}" if scope else ""), list(sites)))
            return await self.site.sites.send(sites[0], call)

        async def create(self, call, resource, choices, later=(), parts=None):
            self.asked.append((f"{call.method} {call.path} {resource.item}", [list(choice) for choice in choices]))
            return await self.site.sites.send(choices[0][0], call)

        def group(self, identifier):
            return "group" if identifier == tied else None

        async def relay(self, call, group, asked, scope=None):
            self.asked.append((f"{call.method} {group} {asked}", []))
            return await self.site.sites.send("paris", call)

    tied = str(uuid.uuid4())

    async def test(cloud: Cloud) -> None:
        replicate = cloud["paris"].parts["replicas"]
        group = str(uuid.uuid4())
        cloud["paris"].services.network["security_groups"][group] = {"id": group}
        assert (await cloud.ask("paris", "DELETE", f"/network/v2.0/security-groups/{group}"))[0] == 204
        assert replicate.asked.pop() == (f"DELETE /v2.0/security-groups/{group}", ["paris", "lyon", "nice"])
        both = {"X-Scope": "{network: lyon & nice}"}
        assert (await cloud.ask("paris", "POST", "/network/v2.0/networks", headers=both, json={"network": {}}))[0] == 201
        assert replicate.asked.pop() == ("POST /v2.0/networks network", [["lyon", "nice"]])
        for site in ("lyon", "nice"):
            cloud[site].services.network["networks"] = {tied: {"id": tied}}
        # A part of a resource with copies is created at all sites that have a copy.
        assert (await cloud.ask("paris", "POST", "/network/v2.0/subnets", json={"subnet": {"network_id": tied}}))[0] == 201
        assert replicate.asked.pop() == ("POST /v2.0/subnets subnet", [["lyon", "nice"]])
        assert (await cloud.ask("paris", "GET", f"/network/v2.0/networks/{tied}"))[0] == 404
        assert replicate.asked.pop() == (f"GET group {tied}", [])

    run(tmp_path, test, replicas=Replicator)
