"""Small parts of a gateway: its own tokens, the rate-limited log, locations, error answers, and requests that insist."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from gateway_cloud import Cloud
from multidict import CIMultiDict

from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.door.limited import BURST, LimitedLog
from atoll.gateway.faults import fault, unreachable
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID
from atoll.gateway.request.requester import Requester
from atoll.gateway.resolve.locate import REMEMBERED_S, Locations
from atoll.gateway.resolve.routes import IMAGES


def lasting(seconds: float) -> dict[str, str]:
    """Return the times of a token that Keystone issues now."""
    now = datetime.now(UTC)
    times = {"issued_at": now, "expires_at": now + timedelta(seconds=seconds)}
    return {name: each.isoformat().replace("+00:00", "Z") for name, each in times.items()}


def test_the_gateways_own_token_is_got_once_and_renewed_before_it_ends(tmp_path: Path) -> None:
    asked: list[dict] = []
    lifetimes = iter((200, 3600, 3600))

    async def main() -> None:
        async with Cloud(tmp_path, "paris") as cloud:

            async def issue(request: web.Request) -> web.StreamResponse:
                asked.append(await request.json())
                return web.json_response({"token": lasting(next(lifetimes))}, status=201, headers={"X-Subject-Token": f"t{len(asked)}"})

            cloud["paris"]._services_runner.server.request_handler = issue
            sites = cloud["paris"].sites
            assert await asyncio.gather(sites.own_token("image"), sites.own_token("image")) == ["t1", "t2"]  # the first one is about to end
            assert await sites.own_token("image") == "t2"
            assert await sites.own_token("network") == "t3", "expected a token of another account for each service"

    asyncio.run(main())
    user = asked[0]["auth"]["identity"]["password"]["user"]
    assert (user["name"], user["password"], len(asked)) == ("gateway_image", "secret", 3)
    assert asked[2]["auth"]["identity"]["password"]["user"]["name"] == "gateway_network"


def test_keystone_that_refuses_the_gateway(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cloud(tmp_path, "paris") as cloud:
            cloud["paris"].services.refuse = lambda _request: web.Response(status=401)
            with pytest.raises(Unreachable, match="401"):
                await cloud["paris"].sites.own_token("compute")

    asyncio.run(main())


def test_the_gateway_vouches_for_an_id_with_a_token_of_its_own_and_tells_of_writes(tmp_path: Path) -> None:
    def issue(request: web.Request) -> web.Response | None:
        if not request.path.startswith("/identity"):
            return web.json_response({}, status=409) if request.path.endswith("/refused") else None
        return web.json_response({"token": lasting(3600)}, status=201, headers={"X-Subject-Token": "own"})

    async def main() -> None:
        async with Cloud(tmp_path, "paris") as cloud:
            services, sites = cloud["paris"].services, cloud["paris"].sites
            services.refuse = issue
            wrote: list[str] = []
            sites.on_write(lambda call: wrote.append(call.path))
            headers = CIMultiDict({"X-Auth-Token": "user", GIVEN_ID: "1"})
            await sites.send("paris", Call("POST", "image", "/v2/images", "", headers, b"{}", "req-1"))
            sent = services.headers[-1]
            assert (sent["X-Auth-Token"], sent["X-Service-Token"], GIVEN_ID in sent) == ("user", "own", False)
            await sites.send("paris", Call("GET", "image", "/v2/images", "", CIMultiDict(), None, "req-1"))
            await sites.send("paris", Call("POST", "image", "/v2/refused", "", CIMultiDict(), b"{}", "req-1"))
            assert [path for path in wrote if path.startswith("/v2/")] == ["/v2/images"]
            # From a client, the header has no effect.
            status, _body, _headers = await cloud.ask("paris", "POST", "/image/v2/images", json={}, headers={GIVEN_ID: "1"})
            assert status == 201
            assert "X-Service-Token" not in services.headers[-1]

    asyncio.run(main())


def test_a_flood_of_mistakes_is_not_a_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = LimitedLog(logging.getLogger("test"), lambda: now[0])
    for index in range(100):
        log.warning("mistake %d", index)
    assert len(caplog.records) == BURST
    now[0] = 2.0
    log.warning("later")
    assert [record.getMessage() for record in caplog.records[BURST:]] == [f"suppressed {100 - BURST} lines like the next one", "later"]


def test_location_is_remembered_for_a_day_after_its_last_proof() -> None:
    now, image = 0.0, IMAGES
    locations, key = Locations(clock=lambda: now), str(uuid.uuid4())
    locations.learn(image, [(key, "nice")])
    now += REMEMBERED_S - 1
    assert locations.get(image, key) == "nice"
    locations.learn(image, [(key, "nice")])
    now += REMEMBERED_S - 1
    assert locations.get(image, key) == "nice"
    now += 2
    assert locations.get(image, key) is None, "the look before has proved nothing"


def test_caches_are_bounded() -> None:
    locations, image = Locations(2), IMAGES
    locations.learn(image, [("a", "paris"), ("b", "lyon"), ("", "nice")])
    assert locations.get(image, "a") == "paris"
    locations.learn(image, [("c", "nice")])
    assert [locations.get(image, each) for each in "abc"] == ["paris", None, "nice"]


@pytest.mark.parametrize(
    ("service", "where"),
    [
        ("compute", ("badRequest", "message")),
        ("network", ("NeutronError", "message")),
        ("image", ("error", "message")),
        ("", ("error", "message")),
    ],
)
def test_errors_have_the_form_of_their_service(service: str, where: tuple[str, str]) -> None:
    assert fault(service, 400, "so", "paris").json()[where[0]][where[1]] == "so"


def test_missing_sites_are_named() -> None:
    reply = unreachable("image", ["nice", "lyon"], "paris")
    assert (reply.status, reply.headers["X-Atoll-Missing"]) == (503, "lyon,nice")
    assert reply.json()["error"]["message"] == "sites lyon, nice can't be reached from paris"


def test_a_call_with_another_body() -> None:
    call = Call("PUT", "compute", "/x", "", CIMultiDict({"Content-Length": "3", "X-Auth-Token": "t"}), b"abc", "req-1")
    other = call.with_(json={"a": 1})
    assert (json.loads(other.body or b""), other.token, "Content-Length" in other.headers) == ({"a": 1}, "t", False)
    assert call.headers["Content-Length"] == "3"
    assert call.with_(path="/y").headers["Content-Length"] == "3"
    with pytest.raises(ValueError, match="no JSON"):
        call.with_(body=None).json()


def test_json_of_a_thousand_brackets_is_none() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for read in (Call("POST", "compute", "/", "", CIMultiDict(), deep, "").json, Reply(200, CIMultiDict(), deep, "paris").json):
        with pytest.raises(ValueError, match="nested"):
            read()
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested"):
        Call("POST", "compute", "/", "", CIMultiDict(), None, "").with_(json=nested)
    assert Requester.parse({"user": nested, "project": "p", "roles": []}) is None


@pytest.mark.parametrize("make", [Conflicts, Ledger])
def test_a_database_in_memory_may_be_collected_in_any_thread(make: Callable[[], object]) -> None:
    held = [make()]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    gc.collect()  # an error in a finalizer fails the test


def test_a_request_may_insist_on_a_site_that_the_mesh_can_not_reach(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cloud(tmp_path, "paris", "lyon") as cloud:
            server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
            cloud.set_state("lyon", "unreachable")
            look = Call("GET", "compute", f"/v2.1/servers/{server}", "", CIMultiDict(), None, "req-1")
            with pytest.raises(Unreachable, match="the mesh can't reach it"):
                await cloud["paris"].sites.send("lyon", look)
            assert (await cloud["paris"].sites.send("lyon", look, insist=True)).status == 200
            assert cloud["paris"].mesh.reports[-1] == ("lyon", True), "the mesh must learn that the site can be reached"

    asyncio.run(main())
