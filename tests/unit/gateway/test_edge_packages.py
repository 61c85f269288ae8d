"""ETSI MEC 010-2 3.1.1, package management: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from edge_cloud import OWN, Ask, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from test_edge_management import DISK, INTERFACES, MD5, OTHER, UNKNOWN, prepare
from test_edge_mobility import add_instance

from atoll.gateway.edge.applications import DISABLED, MANIFEST, PACKAGE
from atoll.gateway.edge.lifecycle.package_bodies import wanted
from atoll.gateway.edge.problem import Problem

ROOT = "/app_pkgm/v1"
PACKAGES = "/onboarded_app_packages"
ONE = f"{PACKAGES}/{DISK}"
READER = {"X-Auth-Token": "reader"}
SPEC = {"requiredResources": {"numCPU": 1, "memory": 400}, "componentSpec": [{"componentName": "map", "networkInterfaces": INTERFACES}]}


def with_reader(cloud: Cloud) -> None:
    prepare(cloud)
    add_reader(cloud)


def add_reader(cloud: Cloud) -> None:
    """Let services refuse changes by readers, as their policies do."""
    for site in ("brest", "metz", "pau"):
        services = cloud[site].services
        services.people["reader"] = ("p1", ("reader",))

        def refuse(request: web.Request, before: Any = services.refuse) -> web.Response | None:
            if request.headers.get("X-Auth-Token") == "reader" and request.method != "GET" and "/identity/" not in request.path:
                return web.json_response({"forbidden": {"code": 403, "message": "Policy doesn't allow this"}}, status=403)
            refused: web.Response | None = before(request)
            return refused

        services.refuse = refuse


def package(**more: Any) -> dict[str, Any]:
    fields = {
        "appPkgName": "fire_map",
        "appPkgVersion": "1.2",
        "appProvider": "Forest_Watch",
        "checksum": {"algorithm": "MD5", "hash": MD5.upper()},
        "userDefinedData": SPEC,
        "appPkgPath": f"urn:uuid:{DISK}",
    }
    return {"CreateAppPkg": {name: value for name, value in (fields | more).items() if value is not ...}}


def state(value: str) -> dict[str, Any]:
    return {"AppPkgInfoModifications": {"operationalState": value}}


def test_package_is_an_image_with_a_manifest(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        assert (await ask("GET", PACKAGES))[1] == []
        status, body, headers = await ask("POST", PACKAGES, package())
        info = body["AppPkgInfo"]
        assert (status, headers["Location"]) == (201, info["_links"]["self"]["href"])
        assert headers["Location"].endswith(f"{ROOT}{ONE}")
        assert (info["id"], info["appDId"], info["appName"], info["appProvider"]) == (DISK, DISK, "fire_map", "Forest_Watch")
        assert (info["onboardingState"], info["operationalState"], info["usageState"]) == ("ONBOARDED", "ENABLED", "NOT_IN_USE")
        assert info["checksum"] == {"algorithm": "md5", "hash": MD5}
        assert info["userDefinedData"]["componentSpec"] == SPEC["componentSpec"]
        for site in ("brest", "pau"):
            assert (await ask("GET", ONE, site=site))[1]["AppPkgInfo"]["appName"] == "fire_map"
        status, body, _headers = await ask("GET", f"{ONE}/appd")
        descriptor = body["AppD"]
        assert descriptor["virtualComputeDescriptor"]["virtualMemory"] == {"virtualMemSize": 400}
        assert descriptor["appExtCpd"] == [{"inherited_attributes": {"interfaceId": "tiles", "protocol": "TCP", "port": 8443}}]
        assert (await ask("POST", PACKAGES, package()))[1]["title"] == "ALREADY_EXISTS"
        assert (await ask("DELETE", ONE))[0] == 204
        assert cloud["brest"].services.images[DISK].keys() & {MANIFEST, PACKAGE} == set(), "the image stays"
        assert (await ask("GET", ONE))[0] == 404

    run(tmp_path, ROOT, test, prepare=prepare)


def test_package_without_more_data_needs_the_smallest_flavor(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.images[DISK] |= {"os_hash_algo": "sha512", "os_hash_value": "ab" * 64}
        digest = {"algorithm": "SHA-512", "hash": "AB" * 64}
        status, body, _headers = await ask("POST", PACKAGES, package(userDefinedData=..., checksum=digest))
        assert (status, body["AppPkgInfo"]["checksum"]) == (201, {"algorithm": "sha512", "hash": "ab" * 64})
        assert (await ask("GET", f"{ONE}/appd"))[1]["AppD"]["appExtCpd"] == [{"inherited_attributes": {}}]

    run(tmp_path, ROOT, test, prepare=prepare)


def test_disabled_package_starts_nothing(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await ask("POST", PACKAGES, package())
        image = cloud["brest"].services.images[DISK]
        for _ in range(2):
            assert (await ask("PATCH", ONE, state("DISABLED")))[1] == state("DISABLED")
            assert image[DISABLED] == "true"
        assert (await ask("GET", f"{PACKAGES}?filter=(eq,operationalState,DISABLED)"))[1][0]["id"] == DISK
        instance = {"CreateAppInstanceRequest": {"appDId": DISK}}
        status, said, _headers = await cloud.ask("brest", "POST", "/app_lcm/v1/app_instances", headers=OWN, json=instance)
        assert (status, said["detail"]) == (403, "the package is disabled: no instances of it can be created")
        names = {"appName": "fire_map", "appProvider": "Forest_Watch", "appDVersion": "1.2", "userAppInstanceInfo": []}
        context = {"AppContext": {"associateDevAppId": "viewer", "appInfo": names}}
        status, said, _headers = await cloud.ask("brest", "POST", "/dev_app/v1/app_contexts", headers=OWN, json=context)
        assert (status, said["title"]) == (403, "PERMISSION_DENIED")
        for _ in range(2):
            assert (await ask("PATCH", ONE, state("ENABLED")))[1] == state("ENABLED")
            assert DISABLED not in image

    run(tmp_path, ROOT, test, prepare=prepare)


def test_package_is_not_deleted_while_a_site_that_may_use_it_does_not_answer(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await ask("POST", PACKAGES, package())
        add_instance(cloud, "pau")
        cloud.set_state("pau", "unreachable")
        status, said, _headers = await ask("DELETE", ONE)
        why = "site pau: it may have instances of the application, and does not answer (pau): disable the application until it does"
        assert (status, said["detail"]) == (503, why)
        assert MANIFEST in cloud["brest"].services.images[DISK]
        target = f"/edge-application-management/v0.1alpha1/apps/{DISK}"
        status, said, _headers = await cloud.ask("brest", "DELETE", target, headers=OWN)
        assert (status, said["message"]) == (503, why), "the same object by another API"
        assert (await ask("PATCH", ONE, state("DISABLED")))[0] == 200
        add_instance(cloud, "metz")
        assert (await ask("DELETE", ONE))[0] == 403, "this is certain without the other site"
        cloud.set_state("pau", "left")
        cloud["metz"].services.servers.clear()
        assert (await ask("DELETE", ONE))[0] == 204, "a site that is no member any more blocks nothing"

    run(tmp_path, ROOT, test, prepare=prepare)


def test_package_in_use_is_not_deleted(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await ask("POST", PACKAGES, package())
        server = add_instance(cloud, "metz")
        async with asyncio.timeout(60):
            while "X-Atoll-Missing" in (found := await ask("GET", ONE))[2]:
                pass  # a busy machine's site is late at first
        assert found[1]["AppPkgInfo"]["usageState"] == "IN_USE"
        assert (await ask("GET", PACKAGES))[1][0]["usageState"] == "IN_USE"
        status, said, _headers = await ask("DELETE", ONE)
        assert (status, said["detail"]) == (403, "the package has instances with a server: terminate them first")
        del cloud["metz"].services.servers[server]
        assert (await ask("DELETE", ONE))[0] == 204

    run(tmp_path, ROOT, test, prepare=prepare)


def test_stranger_and_reader(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        assert (await ask("POST", PACKAGES, package(), headers=READER))[0] == 403
        assert (await ask("POST", PACKAGES, package(), headers=OTHER))[1]["detail"] == "there is no such image"
        await ask("POST", PACKAGES, package())
        for path in (ONE, f"{PACKAGES}/{UNKNOWN}"):
            for method, target, body in (
                ("GET", path, None),
                ("GET", f"{path}/appd", None),
                ("GET", f"{path}/package_content", None),
                ("PUT", f"{path}/package_content", {}),
                ("PATCH", path, state("DISABLED")),
                ("DELETE", path, None),
            ):
                status, said, _headers = await ask(method, target, body, headers=OTHER)
                assert (status, said["detail"]) == (404, "there is no such application"), (method, target)
        before = dict(cloud["brest"].services.images[DISK])
        for method, body in (("PATCH", state("DISABLED")), ("DELETE", None)):
            assert (await ask(method, ONE, body, headers=READER))[0] == 403
        assert (await ask("GET", ONE, headers=READER))[0] == 200
        assert (await ask("GET", PACKAGES, headers=OTHER))[1] == []
        assert cloud["brest"].services.images[DISK] == before

    run(tmp_path, ROOT, test, prepare=with_reader)


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": package(more=1)}),
    (400, "INVALID_ARGUMENT", {"body": package(appProvider=...)}),
    (400, "INVALID_ARGUMENT", {"body": package(appPkgName="two words")}),
    (400, "INVALID_ARGUMENT", {"body": package(checksum={"algorithm": "CRC", "hash": MD5})}),
    (400, "INVALID_ARGUMENT", {"body": package(checksum={"algorithm": "MD5", "hash": "00"})}),
    (400, "INVALID_ARGUMENT", {"body": package(userDefinedData={"requiredResources": {"numCPU": "x"}})}),
    (501, "NOT_IMPLEMENTED", {"body": package(userDefinedData={"requiredResources": {"gpu": {"gpuMemory": 1}}})}),
    (501, "NOT_IMPLEMENTED", {"body": package(appPkgPath="https://example.org/p.csar")}),
    (404, "NOT_FOUND", {"body": package(appPkgPath=f"urn:uuid:{UNKNOWN}")}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": f"{PACKAGES}?filter=x"}),
    (404, "NOT_FOUND", {"method": "GET", "path": f"{PACKAGES}/x"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PUT"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
    (501, "NOT_IMPLEMENTED", {"path": "/subscriptions", "body": {}}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        for status, title, request in ERRORS:
            answered = await ask(**{"method": "POST", "path": PACKAGES} | request)
            assert (answered[0], answered[1]["title"]) == (status, title), request
        assert MANIFEST not in cloud["brest"].services.images[DISK]
        await ask("POST", PACKAGES, package())
        assert (await ask("PATCH", ONE, state("OFF")))[0] == 400
        assert (await ask("GET", f"{ONE}/package_content"))[0] == 501
        upload = {"data": b"PK", "headers": OWN | {"Content-Type": "application/zip"}}
        assert (await ask("PUT", f"{ONE}/package_content", **upload))[0] == 501
        links = (await ask("GET", "/subscriptions"))[1]["AppPkgSubscriptionLinkList"]["_links"]
        assert links["subscriptions"] == []

    run(tmp_path, ROOT, test, prepare=prepare)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(["requiredResources", "componentSpec", "operatingSystem"]), value=_JSON)
def test_any_value_is_accepted_or_refused(name: str, value: Any) -> None:
    for body in (package(userDefinedData={name: value}), package(userDefinedData=value), package(checksum=value)):
        with suppress(Problem):
            wanted(json.dumps(body).encode())
