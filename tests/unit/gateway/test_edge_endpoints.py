"""CAMARA's Application Endpoint Discovery 0.1.0: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from edge_cloud import APPLICATION, OWN, Ask, ipv4, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from test_edge_overlays import ID as IMAGE
from test_edge_overlays import IMAGES, hidden

from atoll.gateway.door.limits import Limits
from atoll.gateway.edge.instances import APP, APP_PORT, APP_PROVIDER, instance_of
from atoll.identifiers import edge_zone

ROOT = "/application-endpoint-discovery/v0.1"
PATH = "/retrieve-optimal-app-endpoints"
MAP = "a9900000-0000-4000-8000-000000000001"
UNKNOWN = "a9900000-0000-4000-8000-0000000000ff"


def add(cloud: Cloud, site: str, address: str, *, app: str = MAP, project: str = "p1", **more: Any) -> dict[str, Any]:
    """Add an instance of an application to a site; return the server, which the test may change."""
    services = cloud[site].services
    server = services.servers[services.add_server(f"map-{site}", "2026-01-01T00:00:00Z", project)]
    server |= {
        "metadata": {APP: app, APP_PROVIDER: "Forest_Watch", f"{APP_PORT}tiles": "8443"},
        "addresses": {"net": [{"version": 4, "addr": address, "OS-EXT-IPS:type": "fixed"}]},
        "OS-EXT-AZ:availability_zone": site,
        "OS-EXT-STS:task_state": None,
    }
    server |= more
    return server


def told(answer: tuple[int, Any, dict[str, str]]) -> list[tuple[str, str]]:
    """Return the zone and the first address of each endpoint of an answer."""
    status, body, _headers = answer
    assert status == 200, body
    for endpoint in body["applicationEndpoints"]:
        assert endpoint["edgeCloudZone"]["edgeCloudZoneId"] == edge_zone("test", endpoint["edgeCloudZone"]["edgeCloudZoneName"])
    return [
        (endpoint["edgeCloudZone"]["edgeCloudZoneName"], (endpoint.get("ipv4Addresses") or endpoint["ipv6Addresses"])[0])
        for endpoint in body["applicationEndpoints"]
    ]


def test_nearest_site_with_an_instance_counts(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        add(cloud, "metz", "192.0.2.2")
        assert told(await ask("POST", PATH, {"appId": MAP})) == [("metz", "192.0.2.2")]
        near = add(cloud, "pau", "192.0.2.3")
        second = add(cloud, "pau", "192.0.2.4")
        assert sorted(told(await ask("POST", PATH, {"appId": MAP}))) == [("pau", "192.0.2.3"), ("pau", "192.0.2.4")]
        answer = await ask("POST", PATH, {"appId": MAP.upper()})
        assert answer[1]["appId"] == MAP
        assert answer[1]["applicationServerProviderName"] == "Forest_Watch"
        assert {each["port"] for each in answer[1]["applicationEndpoints"]} == {8443}
        assert {each["applicationEndpointDescription"] for each in answer[1]["applicationEndpoints"]} == {"tiles"}
        near["status"], second["OS-EXT-STS:task_state"] = "SHUTOFF", "deleting"
        assert told(await ask("POST", PATH, {"appId": MAP})) == [("metz", "192.0.2.2")]

    run(tmp_path, ROOT, test)


def test_application_asks_about_a_device(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for number, site in enumerate(("brest", "metz", "pau")):
            add(cloud, site, f"192.0.2.{number}", project="p2")
        answer = await ask("POST", PATH, {"appId": MAP, **ipv4("10.1.0.7")}, headers=APPLICATION)
        assert told(answer) == [("metz", "192.0.2.1")]
        assert answer[1]["device"] == ipv4("10.1.0.7")["device"]

    run(tmp_path, ROOT, test)


def test_site_that_does_not_answer_is_left_out_and_named(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        add(cloud, "metz", "192.0.2.2")
        add(cloud, "pau", "192.0.2.3")
        cloud.set_state("pau", "unreachable")
        answer = await ask("POST", PATH, {"appId": MAP})
        assert told(answer) == [("metz", "192.0.2.2")]
        assert answer[2]["X-Atoll-Missing"] == "pau"

    run(tmp_path, ROOT, test)


def test_addresses_and_ports(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add(cloud, "brest", "192.0.2.1")
        server["addresses"]["six"] = [{"version": 6, "addr": "2001:db8::5", "OS-EXT-IPS:type": "fixed"}]
        server["metadata"] |= {f"{APP_PORT}feed": "1", f"{APP_PORT}x": "80", f"{APP_PORT}none": "0", f"{APP_PORT}high": "70000"}
        body = (await ask("POST", PATH, {"appId": MAP}))[1]["applicationEndpoints"]
        assert [(each["port"], each["ipv4Addresses"], each["ipv6Addresses"]) for each in body] == [
            (1, ["192.0.2.1"], ["2001:db8::5"]),
            (8443, ["192.0.2.1"], ["2001:db8::5"]),
        ]
        server["addresses"]["net"].append({"version": 4, "addr": "198.51.100.1", "OS-EXT-IPS:type": "floating"})
        body = (await ask("POST", PATH, {"appId": MAP}))[1]["applicationEndpoints"]
        assert [(each["ipv4Addresses"], "ipv6Addresses" in each) for each in body] == [(["198.51.100.1"], False)] * 2
        del server["metadata"][APP_PROVIDER]
        assert "applicationServerProviderName" not in (await ask("POST", PATH, {"appId": MAP}))[1]

    run(tmp_path, ROOT, test)


def test_instances_of_others_do_not_exist(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        add(cloud, "brest", "192.0.2.1")
        assert (await ask("POST", PATH, {"appId": MAP}, headers={"X-Auth-Token": "other"}))[1]["code"] == "NOT_FOUND"
        # A server of another project does not attract devices, even if Nova shows it, as it does to administrators.
        del cloud["brest"].services.people["member"]
        cloud["brest"].services.refuse = lambda request: (
            web.json_response({"token": {"roles": [{"name": "admin"}], "project": {"id": "p7"}}})
            if "X-Subject-Token" in request.headers
            else None
        )
        assert (await ask("POST", PATH, {"appId": MAP}))[:1] == (404,)

    run(tmp_path, ROOT, test)


def test_application_without_an_instance_that_clients_reach(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add(cloud, "brest", "192.0.2.1", status="BUILD")
        assert (await ask("POST", PATH, {"appId": MAP}))[1]["code"] == "SERVICE_NOT_APPLICABLE"
        server["status"], server["addresses"] = "ACTIVE", {}
        assert (await ask("POST", PATH, {"appId": MAP}))[1]["code"] == "SERVICE_NOT_APPLICABLE"
        cloud["metz"].services.images |= IMAGES
        assert (await ask("POST", PATH, {"appId": IMAGE}))[1]["code"] == "SERVICE_NOT_APPLICABLE"
        cloud["brest"].services.people["stranger"] = ("p9", ("member",))
        for site in ("brest", "metz", "pau"):
            cloud[site].services.refuse = hidden
        assert (await ask("POST", PATH, {"appId": IMAGE}, headers={"X-Auth-Token": "stranger"}))[1]["code"] == "NOT_FOUND"

    run(tmp_path, ROOT, test)


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (401, "UNAUTHENTICATED", {"headers": {}}),
    (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "unscoped"}}),
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": {"appId": "map"}}),
    (400, "INVALID_ARGUMENT", {"body": {"appId": MAP, "app": MAP}}),
    (400, "INVALID_ARGUMENT", {"body": {"appId": MAP, "device": {"imei": "1"}}}),
    (400, "INVALID_ARGUMENT", {"data": b"", "headers": OWN | {"Content-Type": "application/json"}}),
    (400, "OUT_OF_RANGE", {"body": {"appId": MAP, "device": {"ipv4Address": {"publicAddress": "10.1.0.7", "publicPort": 80}}}}),
    (404, "NOT_FOUND", {"body": {"appId": UNKNOWN}}),
    (404, "NOT_FOUND", {"body": {"applicationEndpointsId": UNKNOWN}}),
    (404, "NOT_FOUND", {"path": "/retrieve-app-endpoints"}),
    (404, "IDENTIFIER_NOT_FOUND", {"body": {"appId": MAP, **ipv4("192.0.2.1")}, "headers": APPLICATION}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PUT"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
    (422, "MISSING_IDENTIFIER", {"body": {"appId": MAP}, "headers": APPLICATION}),
    (422, "UNNECESSARY_IDENTIFIER", {"body": {"appId": MAP, **ipv4("10.1.0.7")}}),
    (422, "UNSUPPORTED_IDENTIFIER", {"body": {"appId": MAP, "device": {"phoneNumber": "+123456789"}}, "headers": APPLICATION}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        for status, code, request in ERRORS:
            answered = await ask(**{"method": "POST", "path": PATH} | request)
            assert (answered[0], answered[1]["code"]) == (status, code), request

    run(tmp_path, ROOT, test)


def test_nova_that_refuses_or_fails(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for status, code in ((403, "PERMISSION_DENIED"), (500, "INTERNAL"), (503, "UNAVAILABLE")):
            for site in ("brest", "metz", "pau"):
                cloud[site].services.refuse = lambda request, status=status: (
                    web.json_response({"x": {"code": status, "message": "no"}}, status=status) if "/servers" in request.path else None
                )
            answered = await ask("POST", PATH, {"appId": MAP})
            assert (answered[0], answered[1]["code"]) == (status, code)

    run(tmp_path, ROOT, test)


def test_too_many_requests(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        answers = [await ask("POST", PATH, {}, headers={}) for _ in range(3)]
        assert [answer[1]["code"] for answer in answers] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_REQUESTS"]

    run(tmp_path, ROOT, test, limits=Limits(strangers_requests_s=0.001, strangers_requests=2))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(metadata=st.dictionaries(st.sampled_from([APP, APP_PROVIDER, f"{APP_PORT}tiles", "x"]), st.text(max_size=40)), addresses=_JSON)
def test_any_metadata_and_addresses_are_understood_or_ignored(metadata: dict[str, str], addresses: Any) -> None:
    server = {"id": MAP, "tenant_id": "p1", "metadata": metadata, "addresses": {"net": addresses}}
    found = instance_of(server, "p1")
    if found is not None:
        assert list(found.access_points()) is not None
        assert found.status == "unknown"


@pytest.mark.parametrize("project", ["", "p2"])
def test_server_of_another_project_is_no_instance(project: str) -> None:
    assert instance_of({"id": MAP, "tenant_id": "p1", "metadata": {APP: MAP}}, project) is None
