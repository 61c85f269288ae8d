"""ETSI MEC 016 2.2.1, the device application interface: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

import asyncio
import copy
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from edge_cloud import APPLICATION as TWO_LEGGED
from edge_cloud import OWN, Ask, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from test_edge_management import APPLICATION, DISK, OTHER, UNKNOWN, changed, prepare

from atoll.gateway.door.limits import Limits
from atoll.gateway.edge import device_applications
from atoll.gateway.edge.applications import MANIFEST, PACKAGE
from atoll.gateway.edge.device_application_bodies import context_of, locations_of
from atoll.gateway.edge.device_applications import CONTEXT
from atoll.gateway.edge.instances import APP
from atoll.gateway.edge.problem import Problem
from atoll.gateway.handoffs.journal import Departure, Leaving
from atoll.gateway.request.call import Reply, json_reply
from atoll.overlay_images import BASE, DIGEST

ROOT = "/dev_app/v1"
SECOND = "d15c0000-0000-4000-8000-000000000002"
NAMES = {"appName": "fire_map", "appProvider": "Forest_Watch", "appDVersion": "1.2"}
ADDRESSES = {"net": [{"version": 4, "addr": "192.0.2.7", "OS-EXT-IPS:type": "fixed"}]}


def with_application(cloud: Cloud) -> None:
    """Give brest an application, and let servers have an address at once."""
    prepare(cloud)
    cloud["brest"].services.images[DISK] |= {MANIFEST: json.dumps(APPLICATION), PACKAGE: "QCOW2", "description": "A map"}
    for site in ("brest", "metz", "pau"):
        services: Any = cloud[site].services
        add = services.add_server

        def add_server(name: str, created: str, project: str = "p1", services: Any = services, add: Callable[..., str] = add) -> str:
            key = add(name, created, project)
            services.servers[key]["addresses"] = ADDRESSES
            return key

        services.add_server = add_server


def wanted(info: dict[str, Any] | None = None, site: str = "", **more: Any) -> dict[str, Any]:
    place = [{"appLocation": {"civicAddressElement": [{"caType": 23, "caValue": site}]}}] if site else []
    return {"AppContext": {"associateDevAppId": "viewer", "appInfo": NAMES | {"userAppInstanceInfo": place} | (info or {})} | more}


def question(info: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"ApplicationLocationAvailability": {"associateDevAppId": "viewer", "appInfo": NAMES | (info or {})}}


def site_of(info: dict[str, Any]) -> str:
    (element,) = info["appLocation"]["civicAddressElement"]
    assert element["caType"] == 23
    return str(element["caValue"])


def test_applications_are_listed_by_name_provider_and_version(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        (found,) = (await ask("GET", "/app_list"))[1]["ApplicationList"]["appList"]
        assert found["appInfo"] == NAMES | {
            "appDId": DISK,
            "appSoftVersion": "1.2",
            "appDescription": "A map",
            "appCharcs": {"memory": 400, "serviceCont": 0},
        }
        for query, count in (
            ("appname=fire_map&appname=other", 1),
            ("appname=other,fire_map&appprovider=Forest_Watch&appsoftversion=1.2", 1),
            ("appname=other", 0),
            ("appsoftversion=1.3", 0),
            ("servicecont=0", 1),
            ("servicecont=1", 0),
            ("vendorid=x", 0),
        ):
            assert len((await ask("GET", f"/app_list?{query}"))[1]["ApplicationList"]["appList"]) == count, query
        assert (await ask("GET", "/app_list", headers=OTHER))[1]["ApplicationList"]["appList"] == []
        cloud.set_state("pau", "unreachable")
        assert (await ask("GET", "/app_list"))[2]["X-Atoll-Missing"] == "pau"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_context_is_a_server_near_the_device(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for asked, info, site in (("pau", {"appDId": DISK}, ""), ("metz", {}, ""), ("metz", {}, "brest")):
            status, body, headers = await ask("POST", "/app_contexts", wanted(info, site, appAutoInstantiation=True), site=asked)
            assert status == 201
            context = body["AppContext"]
            (instance,) = context["appInfo"]["userAppInstanceInfo"]
            assert (site_of(instance), instance["referenceURI"]) == (site or asked, "tcp://192.0.2.7:8443")
            assert context["contextId"] == UUID(instance["appInstanceId"]).hex
            assert (context["associateDevAppId"], context["appAutoInstantiation"]) == ("viewer", True)
            server = cloud[site or asked].services.servers[instance["appInstanceId"]]
            assert (server["tenant_id"], server["metadata"][CONTEXT], server["metadata"][APP]) == ("p1", "viewer", DISK)
            assert headers["Location"].endswith(f"{ROOT}/app_contexts/{context['contextId']}")
            path = f"/app_contexts/{context['contextId']}"
            assert (await ask("PUT", path, wanted()))[0] == 204
            assert (await ask("PUT", path, wanted(site=site or asked)))[0] == 204, "it is there already"
            assert (await ask("DELETE", path))[0] == 204
            assert not cloud[site or asked].services.servers
            assert (await ask("DELETE", path))[1]["title"] == "NOT_FOUND"

    run(tmp_path, ROOT, test, prepare=with_application)


def with_guests(cloud: Cloud) -> None:
    """Let servers have what a hand-off needs: a disk at the machine of the gateway, a flavor and an image."""
    with_application(cloud)
    for site in ("brest", "metz", "pau"):
        services: Any = cloud[site].services
        services.flavors["f"] = {"id": "f", "name": "small", "vcpus": 1, "ram": 512, "disk": 1}
        add, place = services.add_server, cloud[site].options.data.parent / "instances"

        def add_server(
            name: str,
            created: str,
            project: str = "p1",
            services: Any = services,
            add: Callable[..., str] = add,
            place: Path = place,
        ) -> str:
            key = add(name, created, project)
            services.servers[key] |= {"flavor": {"id": "f"}, "image": {"id": DISK}, "OS-EXT-STS:task_state": None, "locked": False}
            services.servers[key]["os-extended-volumes:volumes_attached"] = []
            disk = place / key / "disk"
            disk.parent.mkdir(parents=True)
            disk.write_bytes(struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 0, 1))
            return key

        services.add_server = add_server


async def started(ask: Ask, site: str = "brest") -> tuple[str, str]:
    """Start a context at a site, and return the path of the context and the id of its server."""
    context = (await ask("POST", "/app_contexts", wanted(site=site)))[1]["AppContext"]
    return f"/app_contexts/{context['contextId']}", context["appInfo"]["userAppInstanceInfo"][0]["appInstanceId"]


def test_context_with_a_new_location_is_handed_off_there(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        path, server = await started(ask)
        journal = cloud["brest"].handoffs.journal
        assert (await ask("PUT", path, wanted()))[0] == 204
        assert (await ask("PUT", path, wanted(site="brest")))[0] == 204
        assert journal.latest(server) is None, "nothing is to be moved"
        status, _body, headers = await ask("PUT", path, wanted(site="pau"), site="metz")
        assert status == 204, "metz passes it on, and the answer waits for no copy"
        departure = journal.latest(server)
        assert departure is not None
        assert (departure.id, departure.site, departure.project) == (headers[device_applications.HANDOFF], "pau", "p1")
        target = f"/cloudlet/v1/servers/{server}/handoff?id={departure.id}"
        status, said, _headers = await cloud.ask("metz", "GET", target, headers=OWN)
        assert (said["site"], said["from"]) == ("pau", "brest"), "by which the device learns the end"

    run(tmp_path, ROOT, test, prepare=with_guests)


def test_update_joins_its_hand_off_and_refuses_another_one(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        path, server = await started(ask)
        journal = cloud["brest"].handoffs.journal
        journal.depart(Departure(UNKNOWN, server, "p1", "pau", Leaving.COMMITTING))
        cloud["pau"].services.free_ram_mb = 0
        for site in ("brest", "metz"):
            status, _body, headers = await ask("PUT", path, wanted(site="pau"), site=site)
            assert (status, headers[device_applications.HANDOFF]) == (204, UNKNOWN), "it has taken the room itself"
            for other in ("metz", "brest"):
                status, said, _headers = await ask("PUT", path, wanted(site=other), site=site)
                assert (status, said["detail"]) == (403, "the server is being handed off to pau already"), "also back to where it is"
        assert [each.id for each in journal.departures()] == [UNKNOWN]

    run(tmp_path, ROOT, test, prepare=with_guests)


def test_move_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        path, server = await started(ask)
        brest = cloud["brest"]
        brest.services.people["reader"] = ("p1", ("reader",))
        held = brest.services.servers[server]
        level = {"atoll_mobility": '{"expiry":0,"until":0}', "atoll_mobility_device_0": '["a",1,0]'}

        async def refused(status: int, detail: str, body: Any = None, **more: Any) -> None:
            answered = await ask("PUT", path, body or wanted(site="pau"), **more)
            assert answered[0] == status
            assert detail in answered[1]["detail"]
            assert brest.handoffs.journal.departures() == []

        await refused(404, "there is no such application context", headers=OTHER)
        await refused(403, "the token may create nothing in a project", headers={"X-Auth-Token": "reader"})
        await refused(404, "there is no site with the name in appLocation", wanted(site="lyon"))
        await refused(400, "contextId is not that of the context", wanted(site="pau", contextId="0" * 32))
        await refused(400, "associateDevAppId is not that of the context", wanted(site="pau", associateDevAppId="other"))
        await refused(400, "appInfo.appDId is not that of the context", wanted({"appDId": UNKNOWN}, "pau"))
        await refused(400, "userAppInstanceInfo has several instances", wanted({"userAppInstanceInfo": [{}, {}]}))
        held["metadata"] |= level
        await refused(403, "APP_MOBILITY_NOT_ALLOWED")
        for key in level:
            del held["metadata"][key]
        held["status"] = "PAUSED"
        await refused(403, "the server's status is PAUSED")
        held["status"] = "ACTIVE"
        cloud["pau"].services.free_ram_mb = 511
        brest.now_s, cloud["pau"].now_s = 6, 6
        await refused(403, "pau has no room for the application now")
        cloud.set_state("pau", "unreachable")
        await refused(503, "it can't be reached from brest")
        assert brest.services.servers.keys() == {server}

    run(tmp_path, ROOT, test, prepare=with_guests)


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"id": "a\\r\\nX-Subject-Token: b", "state": "copying"}', b'{"id": []}'])
def test_member_that_lies_about_a_hand_off_reaches_no_client(tmp_path: Path, said: bytes) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        path, _server = await started(ask)

        async def move(_question: Any, _server: str, _site: str) -> Reply:
            return Reply(202, CIMultiDict(), said, "metz")

        cloud["brest"].edge.device.move = move
        status, answer, headers = await ask("PUT", path, wanted(site="pau"))
        assert (status, answer["title"]) == (503, "UNAVAILABLE")
        assert not {"X-Subject-Token", device_applications.HANDOFF} & headers.keys()

    run(tmp_path, ROOT, test, prepare=with_guests)


@pytest.mark.parametrize(("status", "told"), [(400, 403), (409, 403), (501, 403), (500, 500), (503, 503)])
def test_refused_hand_off_has_the_status_of_the_standard(tmp_path: Path, status: int, told: int) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        path, _server = await started(ask)

        async def move(_question: Any, _server: str, _site: str) -> Reply:
            return json_reply(status, {"error": {"code": status, "message": "the server's disk is elsewhere"}}, "metz")

        cloud["brest"].edge.device.move = move
        answered, answer, _headers = await ask("PUT", path, wanted(site="pau"))
        assert (answered, answer["detail"]) == (told, "the server's disk is elsewhere")

    run(tmp_path, ROOT, test, prepare=with_guests)


def test_site_without_room_is_not_used(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.free_ram_mb = 511
        assert (await ask("POST", "/app_contexts", wanted(site="brest")))[1]["title"] == "PERMISSION_DENIED"
        (instance,) = (await ask("POST", "/app_contexts", wanted()))[1]["AppContext"]["appInfo"]["userAppInstanceInfo"]
        assert site_of(instance) == "pau"
        locations = (await ask("POST", "/obtain_app_loc_availability", question()))[1]["ApplicationLocationAvailability"]
        assert [site_of(each) for each in locations["appInfo"]["availableLocations"]] == ["pau", "metz"]
        for site in ("brest", "metz", "pau"):
            cloud[site].services.free_ram_mb = 0
            cloud[site].now_s += 6
        assert (await ask("POST", "/app_contexts", wanted()))[1]["title"] == "PERMISSION_DENIED"
        locations = (await ask("POST", "/obtain_app_loc_availability", question()))[1]["ApplicationLocationAvailability"]
        assert locations["appInfo"]["availableLocations"] == []

    run(tmp_path, ROOT, test, prepare=with_application)


def test_near_site_with_the_base_of_an_overlay_is_used(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        more = {BASE: "d" * 64, "os_hash_value": "a" * 128, "os_hash_algo": "sha512"}
        cloud["brest"].services.images[DISK] |= more
        cloud["pau"].services.images[DISK] = dict(cloud["brest"].services.images[DISK])
        cloud["pau"].services.images[SECOND] = {
            "id": SECOND,
            "owner": "p1",
            "status": "active",
            "size": 9,
            "created_at": "2026-01-01",
            DIGEST: "d" * 64,
            "os_hash_value": "b" * 128,
            "os_hash_algo": "sha512",
        }
        (instance,) = (await ask("POST", "/app_contexts", wanted()))[1]["AppContext"]["appInfo"]["userAppInstanceInfo"]
        assert site_of(instance) == "pau"

    run(tmp_path, ROOT, test, prepare=with_application)


@pytest.mark.parametrize("changes", [{"status": "ERROR", "fault": {"message": "no base"}}, {"status": "BUILD"}])
def test_instance_that_does_not_run_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.setattr(device_applications, "READY_S", 0.2)
    monkeypatch.setattr(device_applications, "POLL_S", 0.05)

    async def test(cloud: Cloud, ask: Ask) -> None:
        services: Any = cloud["brest"].services
        add = services.add_server

        def broken(*arguments: Any) -> str:
            key = add(*arguments)
            services.servers[key] |= changes
            return key

        services.add_server = broken
        status, body, _headers = await ask("POST", "/app_contexts", wanted())
        assert (status, body["title"]) == (503, "UNAVAILABLE")
        assert ("no base" in body["detail"]) == ("fault" in changes)
        assert not services.servers

    run(tmp_path, ROOT, test, prepare=with_application)


def test_answer_waits_until_the_instance_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_applications, "POLL_S", 0.05)

    async def test(cloud: Cloud, ask: Ask) -> None:
        services: Any = cloud["brest"].services
        add = services.add_server

        def slow(*arguments: Any) -> str:
            key = add(*arguments)
            services.servers[key] |= {"status": "BUILD"}
            asyncio.get_running_loop().call_later(0.3, lambda: services.servers[key].update(status="ACTIVE"))
            return key

        services.add_server = slow
        assert (await ask("POST", "/app_contexts", wanted()))[0] == 201

    run(tmp_path, ROOT, test, prepare=with_application)


def test_contexts_and_applications_of_others_do_not_exist(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        context = (await ask("POST", "/app_contexts", wanted()))[1]["AppContext"]["contextId"]
        plain = cloud["brest"].services.add_server("plain", "2026-01-01T00:00:00Z")
        for method, path, body, headers in (
            ("POST", "/app_contexts", wanted(), OTHER),
            ("POST", "/app_contexts", wanted({"appDId": DISK}), OTHER),
            ("POST", "/obtain_app_loc_availability", question(), OTHER),
            ("PUT", f"/app_contexts/{context}", wanted(), OTHER),
            ("DELETE", f"/app_contexts/{context}", None, OTHER),
            ("DELETE", f"/app_contexts/{UUID(plain).hex}", None, OWN),
        ):
            assert (await ask(method, path, body, headers=headers))[1]["title"] == "NOT_FOUND", (method, path)
        cloud["brest"].services.people["root"] = ("p9", ("admin",))
        cloud["brest"].services.refuse = lambda _request: None
        assert (await ask("DELETE", f"/app_contexts/{context}", headers={"X-Auth-Token": "root"}))[1]["title"] == "NOT_FOUND"
        assert len(cloud["brest"].services.servers) == 2

    run(tmp_path, ROOT, test, prepare=with_application)


def test_several_applications_of_one_name(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images[SECOND] = cloud["brest"].services.images[DISK] | {"id": SECOND}
        assert (await ask("POST", "/app_contexts", wanted()))[1]["title"] == "INVALID_ARGUMENT"
        assert (await ask("POST", "/app_contexts", wanted({"appDId": SECOND})))[0] == 201
        cloud["brest"].services.images[SECOND][MANIFEST] = json.dumps(changed("version", "2"))
        assert (await ask("POST", "/app_contexts", wanted()))[1]["AppContext"]["appInfo"]["appDId"] == DISK

    run(tmp_path, ROOT, test, prepare=with_application)


def _without(name: str, body: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    del changed["AppContext"]["appInfo"][name]
    return changed


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (401, "UNAUTHENTICATED", {"headers": {}}),
    (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "unscoped"}}),
    *((400, "INVALID_ARGUMENT", {"body": _without(name, wanted())}) for name in (*NAMES, "userAppInstanceInfo")),
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": wanted()["AppContext"]}),
    (400, "INVALID_ARGUMENT", {"body": {"AppContext": []}}),
    (400, "INVALID_ARGUMENT", {"body": wanted(associateDevAppId="x" * 33)}),
    (400, "INVALID_ARGUMENT", {"body": wanted(contextId="x")}),
    (400, "INVALID_ARGUMENT", {"body": wanted(callbackReference="http://192.0.2.1/")}),
    (400, "INVALID_ARGUMENT", {"body": wanted(appLocationUpdates=True)}),
    (400, "INVALID_ARGUMENT", {"body": wanted(unknown=1)}),
    (400, "INVALID_ARGUMENT", {"body": wanted({"appPackageSource": "http://192.0.2.1/"})}),
    (400, "INVALID_ARGUMENT", {"body": wanted({"userAppInstanceInfo": [{}, {}]})}),
    (400, "INVALID_ARGUMENT", {"body": wanted({"userAppInstanceInfo": [{"appLocation": {"countryCode": "FR"}}]})}),
    (400, "INVALID_ARGUMENT", {"body": wanted({"userAppInstanceInfo": [{"appLocation": {"civicAddressElement": []}}]})}),
    (400, "INVALID_ARGUMENT", {"body": wanted(), "headers": TWO_LEGGED}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": "/app_list?servicecont=2"}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": "/app_list?servicecont=0&servicecont=0"}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": "/app_list?name=x"}),
    (404, "NOT_FOUND", {"body": wanted(site="lyon")}),
    (404, "NOT_FOUND", {"body": wanted({"appDId": UNKNOWN})}),
    (404, "NOT_FOUND", {"body": wanted({"appDId": "../x"})}),
    (404, "NOT_FOUND", {"body": wanted({"appName": "other"})}),
    (404, "NOT_FOUND", {"body": wanted({"appSoftVersion": "1.3"})}),
    (404, "NOT_FOUND", {"body": wanted({"appDId": DISK, "appDVersion": "2"})}),
    (404, "NOT_FOUND", {"path": "/app_contexts/x", "method": "DELETE"}),
    (404, "NOT_FOUND", {"path": f"/app_contexts/{UUID(UNKNOWN).hex}", "method": "DELETE"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PUT"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images[DISK]["owner"] = "p2"
        for status, title, request in ERRORS:
            if request.get("headers") == TWO_LEGGED:
                cloud["brest"].services.people["application"] = ("p1", ("member", "edge-application"))
            answered = await ask(**{"method": "POST", "path": "/app_contexts"} | request)
            assert (answered[0], answered[1]["title"]) == (status, title), request

    run(tmp_path, ROOT, test, prepare=with_application)


def test_refusals_of_nova(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.refuse = lambda request: (
            web.json_response({"forbidden": {"code": 403, "message": "Quota exceeded for cores"}}, status=403)
            if request.method == "POST" and "/servers" in request.path
            else None
        )
        assert (await ask("POST", "/app_contexts", wanted()))[1]["title"] == "QUOTA_EXCEEDED"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_too_many_requests(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        answers = [await ask("GET", "/app_list", headers={}) for _ in range(3)]
        assert [answer[1]["title"] for answer in answers] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_REQUESTS"]

    run(tmp_path, ROOT, test, limits=Limits(strangers_requests_s=0.001, strangers_requests=2))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from([*NAMES, "userAppInstanceInfo", "appDId", "availableLocations"]), value=_JSON)
def test_any_value_is_accepted_or_refused(name: str, value: Any) -> None:
    for parse, body in ((context_of, wanted({name: value})), (locations_of, question({name: value}))):
        with suppress(Problem):
            parse(json.dumps(body).encode())
