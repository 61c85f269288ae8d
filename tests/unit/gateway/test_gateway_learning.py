"""Answers from which a gateway learns the site of a resource, and answers that it must not trust."""

import asyncio
import uuid
from pathlib import Path

import pytest
from aiohttp import web
from gateway_cloud import Cloud

from atoll.gateway.identity.refusals import Unproven
from atoll.gateway.local import Answer
from atoll.gateway.request.call import Call
from atoll.gateway.resolve.locate import proves
from atoll.gateway.resolve.routes import COMPUTE, IMAGES, Resource, match, network_resource

OWNER = {"X-Auth-Token": "owner"}
ITEM = "/compute/v2.1/servers/"


def run(directory: Path, test, *names: str) -> None:
    async def main() -> None:
        async with Cloud(directory, *(names or ("paris", "lyon"))) as cloud:
            await test(cloud)

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 413, 429, 500, 503])
def test_a_refusal_at_this_site_hides_no_server_of_another(tmp_path: Path, status: int) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("db", "2026-01-01T00:00:00Z")

        def refuse(request: web.Request) -> web.Response | None:
            return None if request.headers.get("X-Auth-Token") == "owner" else web.json_response({}, status=status)

        for site in ("paris", "lyon"):
            cloud[site].services.refuse = refuse
        for method in ("GET", "PUT", "DELETE"):
            await cloud.ask("paris", method, ITEM + server)
        assert cloud["paris"].gateway.locations.get(COMPUTE["servers"], server) is None
        assert (await cloud.ask("paris", "GET", ITEM + server, headers=OWNER))[0] == 200

    run(tmp_path, test)


@pytest.mark.parametrize("status", [403, 405, 409, 429])
def test_a_refusal_at_another_site_teaches_nothing(tmp_path: Path, status: int) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["nice"].services.add_server("db", "2026-01-01T00:00:00Z")
        cloud["lyon"].services.refuse = lambda request: (
            None if request.headers.get("X-Auth-Token") == "owner" else web.json_response({}, status=status)
        )
        cloud["nice"].services.refuse = lambda request: (
            None if request.headers.get("X-Auth-Token") == "owner" else web.json_response({}, status=401)
        )
        await cloud.ask("paris", "GET", ITEM + server)
        await cloud.ask("paris", "PUT", ITEM + server, data=_pieces())
        assert cloud["paris"].gateway.locations.get(COMPUTE["servers"], server) is None
        assert (await cloud.ask("paris", "GET", ITEM + server, headers=OWNER))[0] == 200

    run(tmp_path, test, "paris", "lyon", "nice")


def test_a_site_that_can_not_prove_the_token_says_so_itself(tmp_path: Path) -> None:
    """Lyon answers, so the answer of paris must not say that lyon cannot be reached."""

    async def test(cloud: Cloud) -> None:
        async def settle(call: Call, answer: Answer, _again: object) -> Answer:
            if call.service == "compute":
                raise Unproven("metz")
            return answer

        vars(cloud["lyon"].server._refusals)["settle"] = settle
        for method in ("GET", "DELETE"):
            status, body, headers = await cloud.ask("paris", method, ITEM + str(uuid.uuid4()), headers=OWNER)
            sentence = "site lyon lacks identity data of the token, and site metz, which issued it, can't be reached: try again later"
            assert (status, body["serviceUnavailable"]["message"]) == (503, sentence)
            assert (headers["X-Atoll-Missing"], headers["Retry-After"]) == ("lyon,metz", "5")

    run(tmp_path, test)


async def _pieces():
    yield b"x"


def test_only_success_proves_that_a_resource_is_at_a_site() -> None:
    server, image, network = COMPUTE["servers"], IMAGES, network_resource("networks")
    key = str(uuid.uuid4())

    def told(method: str, service: str, path: str, status: int) -> bool:
        return proves(match(method, service, path), status)

    assert told("GET", "compute", f"/v2.1/servers/{key}", 200)
    assert told("POST", "compute", f"/v2.1/servers/{key}/action", 202)
    assert told("DELETE", "compute", f"/v2.1/servers/{key}", 204)
    assert told("GET", "network", f"/v2.0/networks/{key}", 200)
    assert not [status for status in range(300, 600) if told("GET", "compute", f"/v2.1/servers/{key}", status)]
    assert not told("GET", "network", f"/v2.0/networks/{key}/tags", 200), "the answer may be an empty list about a resource of another site"
    assert not told("GET", "compute", "/v2.1/os-keypairs/laptop", 200), "a name that several users may use identifies no resource"
    assert not told("GET", "compute", "/v2.1/os-hypervisors/host-1", 200)
    assert told("GET", "compute", "/v2.1/flavors/1", 200)
    assert {type(each) for each in (server, image, network)} == {Resource}


def test_an_id_that_a_member_chose_for_an_image_does_not_move_the_server_of_that_id(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("db", "2026-01-01T00:00:00Z")
        cloud["paris"].services.images[server] = {"id": server, "name": "x", "created_at": "2026-01-01"}
        assert (await cloud.ask("paris", "GET", f"/image/v2/images/{server}"))[0] == 200
        assert (await cloud.ask("paris", "GET", ITEM + server))[0] == 200

    run(tmp_path, test)


def test_a_network_of_a_servers_id_is_not_where_the_server_is(tmp_path: Path) -> None:
    """Keep ids of different types apart also after a creation or a list."""

    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("db", "2026-01-01T00:00:00Z")
        made = {"port": {"id": server, "network_id": "n", "name": "x"}}
        cloud["paris"].services.network["networks"]["n"] = {"id": "n"}
        assert (await cloud.ask("paris", "POST", "/network/v2.0/ports", json=made))[0] == 201
        assert (await cloud.ask("paris", "GET", "/network/v2.0/ports"))[0] == 200
        assert (await cloud.ask("paris", "GET", ITEM + server))[0] == 200

    run(tmp_path, test)


def test_names_of_collections_that_strangers_make_up_are_not_kept() -> None:
    before = network_resource.cache_info().maxsize
    assert before is not None
    assert before <= 256
    for number in range(2000):
        match("GET", "network", f"/v2.0/{'x' * 4000}{number}/1")
    assert network_resource.cache_info().currsize <= before
    assert match("GET", "network", "/v2.0/ports/1").resource is network_resource("ports")


def test_a_client_that_breaks_off_its_upload_is_not_a_failure_of_the_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        image = str(uuid.uuid4())
        cloud["lyon"].services.images[image] = {"id": image, "name": "x", "created_at": "2026-01-01"}
        await cloud.ask("paris", "GET", f"/image/v2/images/{image}")
        _reader, writer = await asyncio.open_connection("127.0.0.1", cloud["paris"].public_port)
        head = f"PUT /image/v2/images/{image}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: owner\r\n"
        writer.write(f"{head}Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        assert ("lyon", False) not in cloud["paris"].mesh.reports
        assert (await cloud.ask("paris", "GET", f"/image/v2/images/{image}"))[0] == 200

    run(tmp_path, test)
