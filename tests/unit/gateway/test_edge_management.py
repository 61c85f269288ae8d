"""CAMARA's Edge Application Management 0.1.0-alpha.1: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from edge_cloud import OWN, Ask, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from test_edge_optimal import FLAVORS, LARGE, SMALL

from atoll.gateway.door.limits import Limits
from atoll.gateway.edge import zone_owner
from atoll.gateway.edge.applications import MANIFEST, PACKAGE
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.instances import APP, APP_PORT, APP_PROVIDER
from atoll.gateway.edge.launcher import NETWORK
from atoll.gateway.edge.manifest import parse, stored
from atoll.gateway.edge.problem import Problem
from atoll.gateway.request.call import Call, Reply, to_gateway
from atoll.gateway.request.target import Refused
from atoll.identifiers import edge_zone

ROOT = "/edge-application-management/v0.1alpha1"
DISK = "d15c0000-0000-4000-8000-000000000001"
UNKNOWN = "d15c0000-0000-4000-8000-0000000000ff"
MD5 = "0123456789abcdef0123456789abcdef"
OTHER = {"X-Auth-Token": "other"}
ZONE = {site: edge_zone("test", site) for site in ("brest", "metz", "pau")}

INTERFACES = [
    {"interfaceId": "tiles", "protocol": "TCP", "port": 8443, "visibilityType": "VISIBILITY_EXTERNAL"},
    {"interfaceId": "store", "protocol": "TCP", "port": 5432, "visibilityType": "VISIBILITY_INTERNAL"},
]
APPLICATION: dict[str, Any] = {
    "name": "fire_map",
    "appProvider": "Forest_Watch",
    "version": "1.2",
    "packageType": "QCOW2",
    "operatingSystem": {"architecture": "x86_64", "family": "OTHER", "version": "OTHER", "license": "OS_LICENSE_TYPE_FREE"},
    "appRepo": {"type": "PRIVATEREPO", "imagePath": f"urn:uuid:{DISK}", "checksum": MD5},
    "requiredResources": {"infraKind": "virtualMachine", "numCPU": 1, "memory": 400},
    "componentSpec": [{"componentName": "map", "networkInterfaces": INTERFACES}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the manifest with another value at a path; `...` deletes it."""
    manifest: Any = copy.deepcopy(APPLICATION)
    *parents, name = path.split(".")
    inner = manifest
    for each in parents:
        inner = inner[int(each)] if each.isdigit() else inner[each]
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    return dict(manifest)


def prepare(cloud: Cloud) -> None:
    """Give brest the disk of project p1, all sites two flavors, and each site's Glance and Nova the rights of projects."""
    cloud["brest"].services.images[DISK] = {"id": DISK, "owner": "p1", "status": "active", "checksum": MD5, "created_at": "2026-01-01"}
    for site in ("brest", "metz", "pau"):
        services = cloud[site].services
        services.flavors |= FLAVORS

        def refuse(request: web.Request, services: Any = services) -> web.Response | None:
            project = services.people.get(request.headers.get("X-Auth-Token", ""), ("", ()))[0]
            parts = request.path.split("/")
            if parts[1] == "image" and project != "p1":
                return web.json_response({"images": []}) if parts[-1] == "images" else web.Response(status=404, text="No image")
            if parts[1] == "compute" and services.servers.get(parts[-1], {"tenant_id": project})["tenant_id"] != project:
                return web.json_response({"itemNotFound": {"code": 404, "message": "no"}}, status=404)
            return None

        services.refuse = refuse


async def submitted(ask: Ask) -> None:
    assert (await ask("POST", "/apps", APPLICATION))[:2] == (201, {"appId": DISK})


def wanted(site: str, **more: Any) -> dict[str, Any]:
    return {"name": "map_1", "appId": DISK, "edgeCloudZoneId": ZONE[site]} | more


def test_application_is_an_image_with_a_manifest(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        assert (await ask("GET", "/apps"))[1] == []
        await submitted(ask)
        image = cloud["brest"].services.images[DISK]
        assert (json.loads(image[MANIFEST]), image[PACKAGE]) == (APPLICATION, "QCOW2")
        expected = {"appId": DISK} | APPLICATION
        assert (await ask("GET", "/apps"))[1] == [expected]
        assert (await ask("GET", f"/apps/{DISK}"))[1] == {"appManifest": expected}
        assert (await ask("GET", f"/apps/{DISK}", site="pau"))[1] == {"appManifest": expected}
        assert (await ask("POST", "/apps", APPLICATION))[1]["code"] == "ALREADY_EXISTS"
        assert (await ask("DELETE", f"/apps/{DISK}"))[0] == 204
        assert image.keys() & {MANIFEST, PACKAGE} == set()
        assert (await ask("DELETE", f"/apps/{DISK}"))[1]["code"] == "NOT_FOUND"
        assert DISK in cloud["brest"].services.images, "the image stays"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_instance_is_a_server_in_the_zone(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        status, body, headers = await ask("POST", "/appinstances", wanted("pau"))
        assert status == 202
        assert (body["status"], body["edgeCloudZoneId"], body["appProvider"]) == ("instantiating", ZONE["pau"], "Forest_Watch")
        (server,) = cloud["pau"].services.servers.values()
        assert (server["id"], server["name"], server["tenant_id"]) == (body["appInstanceId"], "map_1", "p1")
        assert server["metadata"] == {APP: DISK, APP_PROVIDER: "Forest_Watch", f"{APP_PORT}tiles": "8443"}
        assert headers["Location"].endswith(f"{ROOT}/appinstances?appInstanceId={server['id']}")
        server |= {"status": "ACTIVE", "addresses": {"net": [{"version": 4, "addr": "192.0.2.7", "OS-EXT-IPS:type": "fixed"}]}}
        for query in ("", f"?appId={DISK}", f"?appInstanceId={server['id']}", "?region=r"):
            (found,) = (await ask("GET", f"/appinstances{query}"))[1]
            assert found["status"] == "ready"
            assert found["componentEndpointInfo"] == [
                {"interfaceId": "tiles", "accessPoints": {"port": 8443, "ipv4Addresses": ["192.0.2.7"]}}
            ]
        for query in (f"?appId={UNKNOWN}", f"?appInstanceId={UNKNOWN}", "?region=elsewhere"):
            assert (await ask("GET", f"/appinstances{query}"))[1] == []
        assert (await ask("POST", "/appinstances", wanted("pau")))[1]["code"] == "ALREADY_EXISTS"
        assert (await ask("POST", "/appinstances", wanted("metz")))[0] == 202
        assert (await ask("DELETE", f"/apps/{DISK}"))[1]["code"] == "ABORTED"
        assert (await ask("DELETE", f"/appinstances/{server['id']}"))[0] == 202
        assert not cloud["pau"].services.servers
        assert (await ask("DELETE", f"/appinstances/{server['id']}"))[1]["code"] == "NOT_FOUND"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_smallest_flavor_that_fits_is_used(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        image = cloud["brest"].services.images[DISK]
        for memory, disk, flavor in ((400, 0, SMALL), (513, 0, LARGE), (400, 5, LARGE), (5000, 0, "")):
            image |= {MANIFEST: json.dumps(changed("requiredResources.memory", memory)), "min_disk": disk}
            cloud["brest"].services.servers.clear()
            answer = await ask("POST", "/appinstances", wanted("brest"))
            made = [server["flavorRef"] for server in cloud["brest"].services.servers.values()]
            assert (answer[0], made) == ((202, [flavor]) if flavor else (400, [])), memory
            if not flavor:
                assert answer[1]["code"] == "OUT_OF_RANGE"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_client_names_a_network(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        assert (await ask("POST", "/appinstances", wanted("brest"), headers=OWN | {NETWORK: "x"}))[1]["code"] == "INVALID_ARGUMENT"
        assert (await ask("POST", "/appinstances", wanted("brest"), headers=OWN | {NETWORK: UNKNOWN}))[0] == 202
        (server,) = cloud["brest"].services.servers.values()
        assert server["networks"] == [{"uuid": UNKNOWN}]

    run(tmp_path, ROOT, test, prepare=prepare)


def test_same_instance_requested_twice_at_the_same_time_is_made_once(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        answers = await asyncio.gather(*(ask("POST", "/appinstances", wanted("brest")) for _ in range(4)))
        assert sorted(answer[0] for answer in answers) == [202, 409, 409, 409]
        assert len(cloud["brest"].services.servers) == 1

    run(tmp_path, ROOT, test, prepare=prepare)


def test_same_instance_requested_at_several_gateways_at_the_same_time_is_made_once(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        sites = ("brest", "metz", "pau", "brest", "metz")
        answers = await asyncio.gather(*(ask("POST", "/appinstances", wanted("pau"), site=site) for site in sites))
        assert sorted(status for status, _body, _headers in answers if status != 503) in ([202, *[409] * more] for more in range(5))
        assert {body["code"] for status, body, _headers in answers if status == 409} == {"ALREADY_EXISTS"}
        (server,) = cloud["pau"].services.servers.values()
        ((site, headers),) = [(site, answer[2]) for site, answer in zip(sites, answers, strict=True) if answer[0] == 202]
        assert headers["Location"] == f"http://127.0.0.1:{cloud[site].public_port}{ROOT}/appinstances?appInstanceId={server['id']}"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_zone_whose_gateway_is_of_an_earlier_version_is_served_by_the_clients(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(zone_owner, "PATH", "/atoll/unknown")
            assert (await ask("POST", "/appinstances", wanted("pau")))[0] == 202
        assert len(cloud["pau"].services.servers) == 1

    run(tmp_path, ROOT, test, prepare=prepare)


def test_answer_of_a_zones_gateway_reaches_the_client_only_in_the_form_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        sites, said = cloud["brest"].sites, wanted("pau") | {"status": "instantiating", "appProvider": "Forest_Watch"}
        heads = CIMultiDict({"Set-Cookie": "evil=1", "Location": "http://evil"})
        send, answers = sites.send, {}

        async def sent(site: str, call: Call, *rest: Any, **more: Any) -> Reply:
            return answers.get(call.path) or await send(site, call, *rest, **more)

        sites.send = sent
        path = to_gateway("POST", zone_owner.PATH).path
        answers[path] = Reply(202, heads, json.dumps(said | {"appInstanceId": UNKNOWN, "more": 1}).encode(), "pau")
        status, body, headers = await ask("POST", "/appinstances", wanted("pau"))
        assert (status, body["appInstanceId"], "more" in body, "Set-Cookie" in headers) == (202, UNKNOWN, False, False)
        assert headers["Location"].endswith(f"?appInstanceId={UNKNOWN}")
        for status, body in ((302, {"message": "m", "code": "c"}), (200, {}), (500, {}), (202, {})):
            answers[path] = Reply(status, heads, json.dumps(body).encode(), "pau")
            assert (await ask("POST", "/appinstances", wanted("pau")))[1]["code"] == "UNAVAILABLE"

    run(tmp_path, ROOT, test, prepare=prepare)


@pytest.mark.parametrize(
    ("token", "zone", "status"),
    [("", "pau", 401), ("nobody", "pau", 403), ("member", "metz", 404), ("other", "pau", 404), ("member", "pau", 202)],
)
def test_other_gateway_starts_instances_with_the_rights_of_its_client_alone(tmp_path: Path, token: str, zone: str, status: int) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)

        def hidden(request: web.Request) -> web.Response | None:
            return web.Response(status=404) if request.headers.get("X-Auth-Token") == "other" and DISK in request.path else None

        for site in ("brest", "metz", "pau"):
            cloud[site].services.refuse = hidden
        call = to_gateway("POST", zone_owner.PATH, headers={"X-Auth-Token": token}).with_(json=wanted(zone))
        reply = await cloud["brest"].sites.send("pau", call)
        assert reply.status == status
        assert len(cloud["pau"].services.servers) == (status == 202)

    run(tmp_path, ROOT, test, prepare=prepare)


def test_zones_gateway_that_lies_or_is_busy_gets_an_error_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        users: list[str] = []

        async def busy(question: Question) -> Reply:
            users.append(question.user)
            raise Refused(503, "compute already answers as many requests of this user as it may")

        cloud["pau"].edge.owner._start = busy
        status, body, _headers = await ask("POST", "/appinstances", wanted("pau"))
        assert (status, body["message"]) == (503, "compute already answers as many requests of this user as it may")
        assert users == ["u"], "it shares no turns with clients without a token"
        sites, said = cloud["brest"].sites, wanted("pau") | {"status": "instantiating", "appProvider": "Forest_Watch"}
        for answered, lie in ((499, {"message": "m", "code": "C"}), (202, said | {"appInstanceId": "\ud800"})):

            async def sent(*_given: Any, answered: int = answered, lie: dict[str, Any] = lie) -> Reply:
                return Reply(answered, CIMultiDict(), json.dumps(lie).encode(), "pau")

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(sites, "send", _only(zone_owner.PATH, sites.send, sent))
                assert (await ask("POST", "/appinstances", wanted("pau")))[0] == 503

    run(tmp_path, ROOT, test, prepare=prepare)


def _only(path: str, send: Callable[..., Any], sent: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that answers the requests for one path of other gateways by another function."""
    wanted_path = to_gateway("POST", path).path

    async def answer(site: str, call: Call, *rest: Any, **more: Any) -> Any:
        return await (sent(site, call) if call.path == wanted_path else send(site, call, *rest, **more))

    return answer


def test_applications_and_instances_of_another_project_do_not_exist(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        instance = (await ask("POST", "/appinstances", wanted("pau")))[1]["appInstanceId"]
        plain = cloud["pau"].services.add_server("plain", "2026-01-01T00:00:00Z")
        for method, path, body in (
            ("GET", f"/apps/{DISK}", None),
            ("DELETE", f"/apps/{DISK}", None),
            ("POST", "/apps", APPLICATION),
            ("POST", "/appinstances", wanted("metz")),
            ("DELETE", f"/appinstances/{instance}", None),
        ):
            assert (await ask(method, path, body, headers=OTHER))[1]["code"] == "NOT_FOUND", (method, path)
        assert (await ask("GET", "/apps", headers=OTHER))[1] == (await ask("GET", "/appinstances", headers=OTHER))[1] == []
        assert (await ask("DELETE", f"/appinstances/{plain}"))[1]["code"] == "NOT_FOUND", "an ordinary server is no instance"
        # Nova shows administrators the server all the same.
        for site in ("brest", "pau"):
            cloud[site].services.people["root"] = ("p9", ("admin",))
            cloud[site].services.refuse = lambda _request: None
        assert (await ask("DELETE", f"/appinstances/{instance}", headers={"X-Auth-Token": "root"}))[1]["code"] == "NOT_FOUND"
        assert cloud["pau"].services.servers.keys() == {instance, plain}

    run(tmp_path, ROOT, test, prepare=prepare)


def test_zones(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud.set_state("metz", "unreachable")

        async def states(query: str = "") -> dict[str, str]:
            found = (await ask("GET", f"/edge-cloud-zones{query}"))[1]
            return {zone["edgeCloudZoneName"]: zone["edgeCloudZoneStatus"] for zone in found}

        assert await states() == {"brest": "active", "metz": "unknown", "pau": "active"}
        assert await states("?status=active&region=r") == {"brest": "active", "pau": "active"}
        for query, code in (("?status=inactive", "OUT_OF_RANGE"), ("?region=x", "OUT_OF_RANGE"), ("?status=on", "INVALID_ARGUMENT")):
            assert (await ask("GET", f"/edge-cloud-zones{query}"))[1]["code"] == code

    run(tmp_path, ROOT, test)


def test_site_that_does_not_answer_is_named(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await submitted(ask)
        assert (await ask("POST", "/appinstances", wanted("pau")))[0] == 202
        cloud.set_state("pau", "unreachable")
        status, body, headers = await ask("GET", "/appinstances")
        assert (status, body, headers["X-Atoll-Missing"]) == (200, [], "pau")
        assert (await ask("GET", "/apps"))[2]["X-Atoll-Missing"] == "pau"
        assert (await ask("POST", "/appinstances", wanted("pau", name="map_2")))[1]["code"] == "UNAVAILABLE"

    run(tmp_path, ROOT, test, prepare=prepare)


SUBMISSIONS: tuple[tuple[int, str, Any], ...] = (
    *((400, "INVALID_ARGUMENT", changed(name, ...)) for name in ("name", "version", "appProvider", "appRepo", "requiredResources")),
    *((400, "INVALID_ARGUMENT", changed(name, ...)) for name in ("packageType", "componentSpec", "appRepo.imagePath")),
    (400, "INVALID_ARGUMENT", changed("appId", DISK)),
    (400, "INVALID_ARGUMENT", changed("packageType", "ISO")),
    (400, "INVALID_ARGUMENT", changed("name", "1")),
    (400, "INVALID_ARGUMENT", changed("name", "ab\n")),
    (400, "INVALID_ARGUMENT", changed("appProvider", "short")),
    (400, "INVALID_ARGUMENT", changed("appRepo.credentials", "secret")),
    (400, "INVALID_ARGUMENT", changed("appRepo.authType", "HTTP_BASIC")),
    (400, "INVALID_ARGUMENT", changed("appRepo.checksum", "f" * 32)),
    (400, "INVALID_ARGUMENT", changed("appRepo.imagePath", "urn:uuid:x")),
    (400, "INVALID_ARGUMENT", changed("appRepo.imagePath", f"urn:uuid:{DISK}/file")),
    (400, "INVALID_ARGUMENT", changed("requiredResources.numCPU", "1")),
    (400, "INVALID_ARGUMENT", changed("componentSpec.0.networkInterfaces", [])),
    (400, "INVALID_ARGUMENT", changed("componentSpec.0.networkInterfaces", INTERFACES + INTERFACES)),
    (400, "OUT_OF_RANGE", changed("requiredResources.numCPU", 0)),
    (400, "OUT_OF_RANGE", changed("requiredResources.memory", 40000)),
    (400, "OUT_OF_RANGE", changed("componentSpec.0.networkInterfaces.0.port", 70000)),
    (
        400,
        "OUT_OF_RANGE",
        changed("componentSpec.0.networkInterfaces", [INTERFACES[0] | {"interfaceId": f"port{each}"} for each in range(33)]),
    ),
    (404, "NOT_FOUND", changed("appRepo.imagePath", f"urn:uuid:{UNKNOWN}")),
    *((501, "NOT_IMPLEMENTED", changed("packageType", name)) for name in ("OVA", "CONTAINER", "HELM", "CSAR")),
    *((501, "NOT_IMPLEMENTED", changed("requiredResources.infraKind", name)) for name in ("kubernetes", "container", "dockerCompose")),
    (501, "NOT_IMPLEMENTED", changed("requiredResources.gpu", {"gpuMemory": 1, "numGPU": 1})),
    (501, "NOT_IMPLEMENTED", changed("appRepo.imagePath", "https://example.org/disk.qcow2")),
)

ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (401, "UNAUTHENTICATED", {"headers": {}}),
    (403, "PERMISSION_DENIED", {"headers": {"X-Auth-Token": "unscoped"}}),
    (400, "INVALID_ARGUMENT", {"path": "/apps?limit=1"}),
    (400, "INVALID_ARGUMENT", {"path": "/appinstances?limit=1"}),
    (400, "INVALID_ARGUMENT", {"path": "/appinstances?appId=x"}),
    (400, "INVALID_ARGUMENT", {"path": f"/appinstances?appId={DISK}&appId={DISK}"}),
    (400, "INVALID_ARGUMENT", {"path": "/appinstances?%ff"}),
    (400, "INVALID_ARGUMENT", {"method": "POST", "path": "/appinstances", "body": wanted("pau", name="1")}),
    (400, "INVALID_ARGUMENT", {"method": "POST", "path": "/appinstances", "body": wanted("pau", appId="x")}),
    (400, "INVALID_ARGUMENT", {"method": "POST", "path": "/appinstances", "body": wanted("pau", flavor="small")}),
    (404, "NOT_FOUND", {"method": "POST", "path": "/appinstances", "body": wanted("pau", appId=UNKNOWN)}),
    (404, "NOT_FOUND", {"method": "POST", "path": "/appinstances", "body": wanted("pau", edgeCloudZoneId=UNKNOWN)}),
    (501, "NOT_IMPLEMENTED", {"method": "POST", "path": "/appinstances", "body": wanted("pau", kubernetesClusterRef=UNKNOWN)}),
    (501, "NOT_IMPLEMENTED", {"method": "POST", "path": "/appinstances", "body": wanted("pau", subscriptionRequest={"sink": "https://x"})}),
    (501, "NOT_IMPLEMENTED", {"method": "POST", "path": "/deployments", "body": {}}),
    (404, "NOT_FOUND", {"path": f"/apps/{UNKNOWN}"}),
    (404, "NOT_FOUND", {"path": "/apps/..%2fimages"}),
    (404, "NOT_FOUND", {"path": f"/apps/{DISK.upper()}"}),
    (404, "NOT_FOUND", {"method": "DELETE", "path": f"/appinstances/{UNKNOWN}"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PUT", "path": "/apps"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"method": "POST", "data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        for status, code, manifest in SUBMISSIONS:
            answered = await ask("POST", "/apps", manifest)
            assert (answered[0], answered[1]["code"]) == (status, code), manifest
        for status, code, request in ERRORS:
            answered = await ask(**{"method": "GET", "path": "/apps"} | request)
            assert (answered[0], answered[1]["code"]) == (status, code), request
        assert (await ask("GET", "/clusters"))[1] == (await ask("GET", f"/deployments?appId={DISK}"))[1] == []

    run(tmp_path, ROOT, test, prepare=prepare)


def test_refusals_of_services(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images[DISK]["status"] = "queued"
        assert (await ask("POST", "/apps", APPLICATION))[1]["code"] == "INVALID_ARGUMENT"
        cloud["brest"].services.images[DISK]["status"] = "active"
        await submitted(ask)
        services = cloud["brest"].services
        for status, message, code in (
            (403, "Quota exceeded for cores: Requested 1", "QUOTA_EXCEEDED"),
            (403, "Policy doesn't allow it", "PERMISSION_DENIED"),
            (409, "Multiple possible networks found", "ABORTED"),
            (400, "no", "INVALID_ARGUMENT"),
            (500, "x" * 900, "INTERNAL"),
            (503, "no", "UNAVAILABLE"),
        ):
            services.refuse = lambda request, status=status, message=message: (
                web.json_response({"fault": {"code": status, "message": message}}, status=status)
                if request.method == "POST" and "/servers" in request.path
                else None
            )
            assert (await ask("POST", "/appinstances", wanted("brest")))[1]["code"] == code
        services.refuse = lambda request: web.Response(status=403, text="no") if request.method == "PATCH" else None
        assert (await ask("DELETE", f"/apps/{DISK}"))[1]["code"] == "PERMISSION_DENIED"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_too_many_requests(tmp_path: Path) -> None:
    async def test(_cloud: Cloud, ask: Ask) -> None:
        answers = [await ask("GET", "/apps", headers={}) for _ in range(3)]
        assert [answer[1]["code"] for answer in answers] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_REQUESTS"]

    run(tmp_path, ROOT, test, limits=Limits(strangers_requests_s=0.001, strangers_requests=2))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps(changed("name", "1")), None, 5, "\ud800", " " * 40000 + json.dumps(APPLICATION)]
)
def test_damaged_manifest_is_none(text: Any) -> None:
    assert stored(text) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(APPLICATION)), value=_JSON)
def test_any_value_is_accepted_or_refused(name: str, value: Any) -> None:
    body = json.dumps(APPLICATION | {name: value}).encode()
    try:
        manifest = parse(body)
    except Problem:
        return
    assert stored(manifest.text()) == manifest
