"""The edge discovery API: every answer that CAMARA's Simple Edge Discovery 2.0.1 (tag r2.3) defines, as a client of a gateway sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import camara_contract
import pytest
from aiohttp import web
from gateway_cloud import Cloud

from atoll.gateway.door.limits import Limits
from atoll.gateway.edge.discovery import PATH
from atoll.identifiers import edge_zone

ROLE = "edge-application"
SERVES = {"10.1.0.0/16": "metz", "10.2.0.0/16": "pau", "2001:db8::/32": "pau", "10.9.0.0/16": "gone"}

OWN, APPLICATION = {"X-Auth-Token": "member"}, {"Authorization": "Bearer application"}

OPERATION = ("simple-edge-discovery", "POST", "/retrieve-closest-edge-cloud-zone")


def check(status: int, body: dict[str, Any], headers: dict[str, str]) -> str:
    """Check an answer against the contract of the standard; return the code of an error, or the name of the zone."""
    camara_contract.check(OPERATION, status, body, headers)
    return str(body["edgeCloudZoneName"] if status == 200 else body["code"])


Ask = Callable[..., Awaitable[tuple[int, str, dict[str, Any], dict[str, str]]]]


def run(
    directory: Path,
    test: Callable[[Cloud, Ask], Awaitable[None]],
    *,
    role: str = ROLE,
    limits: Limits | None = None,
    serves: dict[str, str] | None = None,
) -> None:
    async def main() -> None:
        cloud = Cloud(directory, "brest", "metz", "pau")
        for name in ("brest", "metz", "pau"):
            site = cloud[name]
            site.options = replace(site.options, discovery={"role": role, "serves": SERVES | (serves or {})})
            site.limits = limits or site.limits
            site.services.people |= {"member": ("p1", ("member",)), "application": ("p2", ("member", ROLE)), "unscoped": ("", ())}
            site.mesh.rtts_ms = {frozenset(("brest", "metz")): 9.0, frozenset(("brest", "pau")): 5.0, frozenset(("metz", "pau")): 2.0}
        async with cloud:

            async def ask(site: str = "brest", body: Any = None, method: str = "POST", path: str = PATH, **more: Any) -> Any:
                more.setdefault("headers", OWN)
                if "data" not in more:
                    more["json"] = {} if body is None else body
                status, answer, headers = await cloud.ask(site, method, path, **more)
                return status, check(status, answer, headers), answer, headers

            await test(cloud, ask)

    asyncio.run(main())


def device(**identifiers: object) -> dict[str, object]:
    return {"device": identifiers}


def ipv4(address: str, private: str | None = None) -> dict[str, object]:
    return {"publicAddress": address, "privateAddress": address if private is None else private}


def test_a_device_is_nearest_to_the_site_that_it_asks(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for site in ("brest", "metz", "pau"):
            for headers in (OWN, {"Authorization": "Bearer member"}, {"Authorization": "bearer member", "X-Auth-Token": "member"}):
                status, zone, body, answered = await ask(site, headers=headers)
                assert (status, zone) == (200, site)
                assert body == {"edgeCloudZoneId": edge_zone("test", site), "edgeCloudZoneName": site, "edgeCloudProvider": "test"}
                assert answered["X-Atoll-Zone-Url"] == f"http://127.0.0.1:{cloud[site].public_port}/identity/v3"
            others = {"brest", "metz", "pau"} - {site}
            assert not any(cloud[other].services.requests for other in others), "a local answer costs no other site anything"
            cloud[site].services.requests.clear()

    run(tmp_path, test)


def test_a_device_in_the_access_network_of_a_site_is_nearest_to_that_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        status, zone, body, headers = await ask()
        assert (status, zone, "device" in body) == (200, "metz", False)
        assert headers["X-Atoll-Zone-Url"] == f"http://127.0.0.1:{cloud['metz'].public_port}/identity/v3"

    run(tmp_path, test, serves={"127.0.0.0/8": "metz"})


def test_an_application_asks_about_devices_and_reads_by_which_identifier_one_was_found(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        for identifiers, site, used in (
            ({"ipv4Address": ipv4("10.1.0.7")}, "metz", "ipv4Address"),
            ({"ipv4Address": ipv4("192.0.2.1", "10.2.0.1")}, "pau", "ipv4Address"),
            ({"ipv6Address": "2001:db8::1"}, "pau", "ipv6Address"),
            ({"ipv4Address": ipv4("192.0.2.1"), "ipv6Address": "2001:db8::1"}, "pau", "ipv6Address"),
            (
                {"phoneNumber": "+123456789", "ipv4Address": ipv4("10.1.0.7"), "networkAccessIdentifier": "1@example.org"},
                "metz",
                "ipv4Address",
            ),
        ):
            status, zone, body, _headers = await ask(body=device(**identifiers), headers=APPLICATION)
            assert (status, zone, body["device"]) == (200, site, {used: identifiers[used]})

    run(tmp_path, test)


def test_a_site_without_room_or_without_nova_is_replaced_by_the_nearest_other_one(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        def later() -> None:
            for name in ("brest", "metz", "pau"):
                cloud[name].now_s += 6

        cloud["brest"].services.free_ram_mb = 63
        assert (await ask())[1] == "pau"
        cloud["pau"].services.refuse = lambda request: web.Response(status=500) if "os-hypervisors" in request.path else None
        assert (await ask())[1] == "pau", "what a site said is remembered for five seconds"
        later()
        assert (await ask())[1] == "metz"
        # From the device's own site, not from the gateway that is asked, the next site is chosen.
        cloud["metz"].services.free_ram_mb = -5
        cloud["pau"].services.refuse = lambda _request: None
        cloud["brest"].services.free_ram_mb = 64
        later()
        assert (await ask(body=device(ipv4Address=ipv4("10.1.0.7")), headers=APPLICATION))[1] == "pau"
        cloud.set_state("pau", "unreachable")
        assert (await ask(body=device(ipv4Address=ipv4("10.1.0.7")), headers=APPLICATION))[1] == "brest"
        cloud["brest"].services.free_ram_mb = 0
        later()
        assert (await ask())[:2] == (422, "SERVICE_NOT_APPLICABLE")

    run(tmp_path, test)


def test_requests_at_the_same_time_ask_each_site_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine, a site's answer may take longer than a client should wait.
    monkeypatch.setattr("atoll.gateway.edge.zones.ANSWER_S", 60.0)
    monkeypatch.setattr("atoll.gateway.edge.zones.REMEMBERED_S", 60.0)

    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.free_ram_mb = cloud["metz"].services.free_ram_mb = 0
        answers = await asyncio.gather(*(ask() for _ in range(12)))
        assert {answer[:2] for answer in answers} == {(200, "pau")}
        for site in ("brest", "metz", "pau"):
            assert sum("os-hypervisors" in path for _method, path in cloud[site].services.requests) == 1, site

    run(tmp_path, test)


def test_for_a_prefix_of_a_site_that_is_not_a_member_the_asked_site_is_returned(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for name in ("brest", "metz", "pau"):
            cloud[name].mesh.rtts_ms |= {frozenset((other, "gone")): None for other in ("brest", "metz", "pau")}
        assert (await ask(body=device(ipv4Address=ipv4("10.9.0.1")), headers=APPLICATION))[:2] == (200, "brest")

    run(tmp_path, test)


def test_the_errors_of_the_standard(tmp_path: Path) -> None:
    found = device(ipv4Address=ipv4("10.1.0.7"))
    rows: tuple[tuple[int, str, dict[str, Any]], ...] = (
        # Tokens
        (401, "UNAUTHENTICATED", {"headers": {}}),
        (401, "UNAUTHENTICATED", {"headers": {"X-Auth-Token": "junk"}}),
        (401, "UNAUTHENTICATED", {"headers": {"Authorization": "Bearer"}}),
        (401, "UNAUTHENTICATED", {"headers": {"Authorization": "Basic bWVtYmVy"}}),
        (401, "UNAUTHENTICATED", {"headers": {"Authorization": "Bearer member", "X-Auth-Token": "application"}}),
        (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "unscoped"}}),
        (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "limited"}}),
        # The body
        (400, "INVALID_ARGUMENT", {"data": b"", "headers": OWN | {"Content-Type": "application/json"}}),
        (400, "INVALID_ARGUMENT", {"data": b"{", "headers": OWN | {"Content-Type": "application/json"}}),
        (400, "INVALID_ARGUMENT", {"data": b" " * 9000, "headers": OWN | {"Content-Type": "application/json"}}),
        (400, "INVALID_ARGUMENT", {"body": {"devices": {}}}),
        (400, "INVALID_ARGUMENT", {"body": {"device": {}}}),
        (400, "INVALID_ARGUMENT", {"body": device(imei="1"), "headers": APPLICATION}),
        (400, "INVALID_ARGUMENT", {"body": device(phoneNumber="1")}),
        (400, "OUT_OF_RANGE", {"body": device(ipv4Address={"publicAddress": "10.1.0.7", "publicPort": 80})}),
        (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
        # The device
        (422, "UNNECESSARY_IDENTIFIER", {"body": found}),
        (422, "UNNECESSARY_IDENTIFIER", {"body": device(ipv4Address=ipv4("127.0.0.1"))}),
        (422, "MISSING_IDENTIFIER", {"headers": APPLICATION}),
        (422, "UNSUPPORTED_IDENTIFIER", {"body": device(phoneNumber="+123456789"), "headers": APPLICATION}),
        (422, "UNSUPPORTED_IDENTIFIER", {"body": device(networkAccessIdentifier="1@example.org"), "headers": APPLICATION}),
        (404, "IDENTIFIER_NOT_FOUND", {"body": device(ipv4Address=ipv4("192.0.2.1")), "headers": APPLICATION}),
        # The request
        (404, "NOT_FOUND", {"path": "/simple-edge-discovery/v1/edge-cloud-zones"}),
        (404, "NOT_FOUND", {"path": "/simple-edge-discovery/"}),
        (405, "METHOD_NOT_ALLOWED", {"method": "GET"}),
        (400, "INVALID_ARGUMENT", {"path": f"{PATH}?filter=closest"}),
        (400, "INVALID_ARGUMENT", {"headers": OWN | {"x-correlator": "a b"}}),
        (400, "INVALID_ARGUMENT", {"headers": OWN | {"x-correlator": "a" * 257}}),
    )

    def keystone(request: web.Request) -> web.Response | None:
        subject = request.headers.get("X-Subject-Token")
        if subject == "junk":
            return web.json_response({}, status=404)
        if subject == "limited":
            rules = {"access_rules": [{"service": "compute", "method": "GET", "path": "/v2.1/servers"}]}
            return web.json_response({"token": {"roles": [{"name": ROLE}], "application_credential": rules}})
        return None

    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.refuse = keystone
        for status, code, request in rows:
            answered = await ask(**request)
            assert answered[:2] == (status, code), request
            assert len(answered[3]["x-correlator"]) == 36

    run(tmp_path, test)


def test_without_a_role_in_the_yaml_nobody_asks_about_another_device(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        body = device(ipv4Address=ipv4("10.1.0.7"))
        assert (await ask(body=body, headers=APPLICATION))[:2] == (422, "UNNECESSARY_IDENTIFIER")
        assert (await ask(headers=APPLICATION))[:2] == (200, "brest")

    run(tmp_path, test, role="")


def test_no_header_of_a_client_changes_its_address(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        forged = {"X-Forwarded-For": "10.1.0.7", "Forwarded": "for=10.1.0.7", "X-Real-IP": "10.1.0.7", "X-Roles": ROLE, "X-Scope": "metz"}
        assert (await ask(headers=OWN | forged))[:2] == (200, "brest")

    run(tmp_path, test)


def test_every_answer_repeats_the_correlator_of_the_request(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        for headers in (OWN, {}, {"X-Auth-Token": "unscoped"}):
            said = "b4333c46-a:b;c./<d>{e}_f"
            assert (await ask(headers=headers | {"x-correlator": said}))[3]["x-correlator"] == said

    run(tmp_path, test)


def test_a_keystone_that_does_not_answer_is_an_error_of_the_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.refuse = lambda request: web.Response(status=500) if "X-Subject-Token" in request.headers else None
        status, code, _body, headers = await ask()
        assert (status, code, headers["Retry-After"]) == (503, "UNAVAILABLE", "1")

    run(tmp_path, test)


def test_a_client_that_asks_too_often_is_told_so_in_the_form_of_the_standard(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        answers = [await ask(headers={}) for _ in range(4)]
        assert [answer[0] for answer in answers] == [401, 401, 429, 429]
        assert answers[3][1] == "TOO_MANY_REQUESTS"

    run(tmp_path, test, limits=Limits(strangers_requests_s=0.001, strangers_requests=2))


def test_repeated_headers_are_refused_as_at_every_other_path(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        for twice in (("Authorization", "Bearer member"), ("x-correlator", "a"), ("X-Auth-Token", "member")):
            headers = [*OWN.items(), twice, twice]
            assert (await ask(headers=headers))[:2] == (400, "INVALID_ARGUMENT")

    run(tmp_path, test)


@pytest.mark.parametrize("path", [f"/scope/metz{PATH}", f"/strict{PATH}", f"/compute{PATH}", PATH.replace("/v2", "//v2")])
def test_the_api_has_one_address(tmp_path: Path, path: str) -> None:
    async def test(cloud: Cloud, _ask: Ask) -> None:
        status, _body, headers = await cloud.ask("brest", "POST", path, json={}, headers=OWN)
        assert status in {400, 404}
        assert "X-Atoll-Zone-Url" not in headers

    run(tmp_path, test)


def test_a_stranger_learns_nothing_at_the_peer_port(tmp_path: Path) -> None:
    async def test(cloud: Cloud, _ask: Ask) -> None:
        url = f"https://127.0.0.1:{cloud['brest'].peer_port}/atoll/edge-zone"
        async with cloud.session.get(url, ssl=False) as response:
            assert response.status == 403

    run(tmp_path, test)
