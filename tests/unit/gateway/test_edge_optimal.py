"""CAMARA's Optimal Edge Discovery 0.1.0: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from edge_cloud import APPLICATION, OWN, Ask, ipv4, run
from gateway_cloud import Cloud
from test_edge_overlays import BASE, COMMON, IMAGES, hidden
from test_edge_overlays import ID as OVERLAY

from atoll.gateway.door.limits import Limits
from atoll.identifiers import edge_zone

ROOT = "/optimal-edge-discovery/v0.1"
ZONES = "/retrieve-optimal-edge-cloud-zones"
SMALL, LARGE = "f1a00000-0000-4000-8000-000000000001", "f1a00000-0000-4000-8000-000000000002"
PLAIN = "0a0a0a0a-0000-4000-8000-000000000003"
UNKNOWN = "0a0a0a0a-0000-4000-8000-0000000000ff"
FLAVORS = {
    SMALL: {"id": SMALL, "name": "small", "ram": 512, "vcpus": 1, "disk": 4},
    LARGE: {"id": LARGE, "name": "large", "ram": 4096, "vcpus": 2, "disk": 0},
}


def profiles(cloud: Cloud) -> None:
    """Give all sites two flavors, and brest three images."""
    for site in ("brest", "metz", "pau"):
        cloud[site].services.flavors |= FLAVORS
    cloud["brest"].services.images |= IMAGES
    cloud["brest"].services.images[PLAIN] = COMMON | {"id": PLAIN, "min_ram": 600, "min_disk": 5}


def names(answer: tuple[int, Any, dict[str, str]]) -> list[str]:
    status, body, _headers = answer
    assert status == 200, body
    for zone in body["edgeCloudZones"]:
        assert zone["edgeCloudZoneId"] == edge_zone("test", zone["edgeCloudZoneName"])
    return [zone["edgeCloudZoneName"] for zone in body["edgeCloudZones"]]


def profile(identifier: str, **more: Any) -> dict[str, Any]:
    return {"applicationProfileId": identifier} | more


def test_regions_are_those_of_the_catalogue(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        assert (await ask("GET", "/regions"))[:2] == (200, ["r"])

    run(tmp_path, ROOT, test)


def test_zones_come_in_the_order_of_their_distance(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        answer = await ask("POST", ZONES)
        assert names(answer) == ["brest", "pau", "metz"]
        assert answer[1].keys() == {"edgeCloudZones"}
        assert answer[2]["X-Atoll-Zone-Url"] == f"http://127.0.0.1:{cloud['brest'].public_port}/identity/v3"
        far = await ask("POST", ZONES, profile(SMALL, edgeCloudRegion="r", **ipv4("10.1.0.7")), headers=APPLICATION)
        assert names(far) == ["metz", "pau", "brest"]
        assert far[1]["device"] == ipv4("10.1.0.7")["device"]
        assert far[1]["applicationProfileId"] == SMALL

    run(tmp_path, ROOT, test, prepare=profiles)


def test_zones_have_room_for_the_flavor(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.free_ram_mb = 511
        cloud["pau"].services.free_ram_mb = 4096
        assert names(await ask("POST", ZONES)) == ["brest", "pau", "metz"]
        assert names(await ask("POST", ZONES, profile(SMALL))) == ["pau", "metz"]
        assert names(await ask("POST", ZONES, profile(LARGE))) == ["pau"]
        # An image that needs 600 MB needs the large flavor.
        assert names(await ask("POST", ZONES, profile(PLAIN))) == ["pau"]
        cloud["pau"].services.free_ram_mb = 0
        for site in ("brest", "metz", "pau"):
            cloud[site].now_s += 6
        assert (await ask("POST", ZONES, profile(LARGE)))[1]["code"] == "SERVICE_NOT_APPLICABLE"

    run(tmp_path, ROOT, test, prepare=profiles)


def test_image_for_which_no_flavor_is_large_enough(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images[PLAIN]["min_ram"] = 5000
        status, body, _headers = await ask("POST", ZONES, profile(PLAIN))
        assert (status, body["code"]) == (422, "SERVICE_NOT_APPLICABLE")

    run(tmp_path, ROOT, test, prepare=profiles)


def test_near_zone_that_holds_the_base_of_an_overlay_comes_first(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images.pop(BASE)
        assert names(await ask("POST", ZONES, profile(OVERLAY))) == ["brest", "pau", "metz"]
        cloud["pau"].services.images |= IMAGES
        cloud["metz"].services.images |= IMAGES  # too far to count
        assert names(await ask("POST", ZONES, profile(OVERLAY))) == ["pau", "brest", "metz"]

    run(tmp_path, ROOT, test, prepare=profiles)


def test_image_that_the_caller_may_not_see_is_no_profile(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.people["stranger"] = ("p9", ("member",))
        for site in ("brest", "metz", "pau"):
            cloud[site].services.refuse = hidden
        for identifier in (OVERLAY, PLAIN, UNKNOWN):
            status, body, _headers = await ask("POST", ZONES, profile(identifier), headers={"X-Auth-Token": "stranger"})
            assert (status, body["code"]) == (404, "NOT_FOUND")

    run(tmp_path, ROOT, test, prepare=profiles)


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (401, "UNAUTHENTICATED", {"headers": {}}),
    (401, "UNAUTHENTICATED", {"headers": {"X-Auth-Token": "junk"}}),
    (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "unscoped"}}),
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": profile("1")}),
    (400, "INVALID_ARGUMENT", {"body": {"applicationProfileId": 1}}),
    (400, "INVALID_ARGUMENT", {"body": profile(SMALL, edgeCloudRegion=1)}),
    (400, "INVALID_ARGUMENT", {"body": profile(SMALL, zone="brest")}),
    (400, "INVALID_ARGUMENT", {"body": profile(SMALL, device={})}),
    (400, "INVALID_ARGUMENT", {"data": b"{", "headers": OWN | {"Content-Type": "application/json"}}),
    (400, "INVALID_ARGUMENT", {"data": b" " * 9000, "headers": OWN | {"Content-Type": "application/json"}}),
    (400, "INVALID_ARGUMENT", {"path": f"{ZONES}?x=1"}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": "/regions", "body": {}}),
    (400, "OUT_OF_RANGE", {"body": profile(SMALL, device={"ipv4Address": {"publicAddress": "10.1.0.7", "publicPort": 80}})}),
    (404, "NOT_FOUND", {"body": profile(UNKNOWN)}),
    (404, "NOT_FOUND", {"body": profile(SMALL, edgeCloudRegion="elsewhere")}),
    (404, "NOT_FOUND", {"path": "/zones"}),
    (404, "IDENTIFIER_NOT_FOUND", {"body": profile(SMALL, **ipv4("192.0.2.1")), "headers": APPLICATION}),
    (405, "METHOD_NOT_ALLOWED", {"method": "DELETE"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "POST", "path": "/regions"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
    (422, "MISSING_IDENTIFIER", {"body": profile(SMALL), "headers": APPLICATION}),
    (422, "MISSING_IDENTIFIER", {"headers": APPLICATION}),
    (422, "UNNECESSARY_IDENTIFIER", {"body": profile(SMALL, **ipv4("10.1.0.7"))}),
    (422, "UNSUPPORTED_IDENTIFIER", {"body": profile(SMALL, device={"phoneNumber": "+123456789"}), "headers": APPLICATION}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.refuse = lambda request: (
            web.json_response({}, status=404) if request.headers.get("X-Subject-Token") == "junk" else None
        )
        for status, code, request in ERRORS:
            answered = await ask(**{"method": "POST", "path": ZONES} | request)
            assert (answered[0], answered[1]["code"]) == (status, code), request
        assert (await ask("DELETE", ZONES))[2]["Allow"] == "POST"

    run(tmp_path, ROOT, test, prepare=profiles)


def test_services_that_do_not_answer_or_fail(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.refuse = lambda request: web.Response(status=503) if "/flavors/" in request.path else None
        status, body, headers = await ask("POST", ZONES, profile(SMALL))
        assert (status, body["code"], headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
        cloud["brest"].services.refuse = lambda request: web.Response(text="[]") if "/flavors/" in request.path else None
        assert (await ask("POST", ZONES, profile(SMALL)))[1]["code"] == "UNAVAILABLE"

    run(tmp_path, ROOT, test, prepare=profiles)


def test_too_many_requests(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        answers = [await ask("GET", "/regions", headers={}) for _ in range(4)]
        assert [answer[0] for answer in answers] == [401, 401, 429, 429]
        assert answers[3][1]["code"] == "TOO_MANY_REQUESTS"

    run(tmp_path, ROOT, test, limits=Limits(strangers_requests_s=0.001, strangers_requests=2))


@pytest.mark.parametrize("path", [f"/scope/metz{ROOT}{ZONES}", f"/compute{ROOT}{ZONES}", f"/strict{ROOT}{ZONES}"])
def test_api_has_one_address(tmp_path: Path, path: str) -> None:
    async def test(cloud: Cloud, _ask: Ask) -> None:
        status, _body, headers = await cloud.ask("brest", "POST", path, headers=OWN)
        assert status in {400, 404}
        assert "X-Atoll-Zone-Url" not in headers

    run(tmp_path, ROOT, test)
