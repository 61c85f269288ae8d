"""The edge APIs of CAMARA and ETSI at three sites: an application is submitted, started near a device, found by it, and removed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment import until
from three_sites import SITES, Tenant

from atoll.bench.api import Answer, Api
from atoll.identifiers import edge_zone

ROOT = "/edge-application-management/v0.1alpha1"
OPTIMAL = "/optimal-edge-discovery/v0.1"
ENDPOINTS = "/application-endpoint-discovery/v0.1/retrieve-optimal-app-endpoints"
DEVICE = "/dev_app/v1"
CIDR = "10.44.0.0/24"
ATOLL = Path(sys.executable).with_name("atoll")


def edge(api: Api, method: str, path: str, body: Any = None) -> Answer:
    api._endpoints["edge"] = api.endpoint("identity").partition("/identity")[0]
    return api.call("edge", method, path, body)


def served(api: Api, path: str, body: Any) -> Answer:
    """Send a request until it succeeds: a site of a busy machine may not answer in time whether it has room, or start a server in time."""

    def answered() -> Answer | None:
        answer = edge(api, "POST", path, body)
        assert answer.ok or answer.status in {403, 422, 503}, answer.body
        return answer if answer.ok else None

    return until(answered, f"{path} succeeds")


def deleted(api: Api, path: str) -> None:
    """Delete an application as soon as all sites say that they have no instance: one of a busy machine may not answer in time."""

    def gone() -> bool:
        answer = edge(api, "DELETE", path)
        assert answer.status in {204, 503}, answer.body
        return answer.status == 204

    until(gone, f"{path} is deleted")


def manifest(image: str) -> dict[str, Any]:
    interface = {"interfaceId": "tiles", "protocol": "TCP", "port": 8443, "visibilityType": "VISIBILITY_EXTERNAL"}
    return {
        "name": "fire_map",
        "appProvider": "Forest_Watch",
        "version": "1",
        "packageType": "QCOW2",
        "appRepo": {"type": "PRIVATEREPO", "imagePath": f"urn:uuid:{image}"},
        "requiredResources": {"infraKind": "virtualMachine", "numCPU": 1, "memory": 64},
        "componentSpec": [{"componentName": "map" * 20, "networkInterfaces": [interface]}],
    }


@pytest.fixture
def image(victim: Tenant) -> str:
    """Give the victim an image at brest, and its only network there."""
    brest = victim.api("brest")
    body = {"name": "fire-map", "disk_format": "raw", "container_format": "bare"}
    made = str(brest.expect("image", "POST", "/v2/images", body)["id"])
    brest.expect("image", "PUT", f"/v2/images/{made}/file", data=b"atoll" * 1000)
    network = brest.expect("network", "POST", "/v2.0/networks", {"network": {"name": "edge"}})["network"]["id"]
    brest.expect("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": CIDR}})
    return made


def check_device(near: Api, far: Api, others: Api) -> None:
    """Have a device at metz start and delete an instance of its own."""
    names = {"appName": "fire_map", "appProvider": "Forest_Watch", "appDVersion": "1", "userAppInstanceInfo": []}
    body = {"AppContext": {"associateDevAppId": "viewer", "appInfo": names}}
    assert edge(others, "POST", f"{DEVICE}/app_contexts", body).status == 404
    made = served(near, f"{DEVICE}/app_contexts", body)
    context = made.body["AppContext"]["contextId"]
    (started,) = made.body["AppContext"]["appInfo"]["userAppInstanceInfo"]
    assert started["appLocation"] == {"civicAddressElement": [{"caType": 23, "caValue": "metz"}]}
    assert started["referenceURI"].startswith("tcp://10.44.0.")
    assert edge(others, "DELETE", f"{DEVICE}/app_contexts/{context}").status == 404
    path, at = f"{DEVICE}/app_contexts/{context}", {"appLocation": {"civicAddressElement": [{"caType": 23, "caValue": "metz"}]}}
    moved = {"AppContext": {"associateDevAppId": "viewer", "appInfo": names | {"userAppInstanceInfo": [at]}}}
    assert edge(others, "PUT", path, moved).status == 404
    assert edge(far, "PUT", path, moved).status == 204, "it is at metz already"
    at["appLocation"]["civicAddressElement"][0]["caValue"] = "pau"
    refused = edge(far, "PUT", path, moved)
    assert (refused.status, refused.body["title"]) == (403, "PERMISSION_DENIED"), "records of the fake driver have no disk"
    assert edge(far, "DELETE", path).status == 204
    until(lambda: len(edge(far, "GET", f"{ROOT}/appinstances").body) == 1, "the context's server is gone", 60)


def test_application_from_its_submission_to_its_removal(victim: Tenant, attacker: Tenant, image: str) -> None:
    apis = {site: victim.api(site) for site in SITES}
    brest, metz, pau = (apis[site] for site in SITES)
    others = attacker.api("pau")
    assert edge(others, "POST", f"{ROOT}/apps", manifest(image)).status == 404
    submitted = edge(pau, "POST", f"{ROOT}/apps", manifest(image))
    assert (submitted.status, submitted.body) == (201, {"appId": image})
    assert edge(metz, "GET", f"{ROOT}/apps/{image}").body["appManifest"] == {"appId": image} | manifest(image)
    assert [each["appId"] for each in edge(metz, "GET", f"{ROOT}/apps").body] == [image]
    assert edge(metz, "POST", ENDPOINTS, {"appId": image}).body["code"] == "SERVICE_NOT_APPLICABLE"

    best = served(pau, f"{OPTIMAL}/retrieve-optimal-edge-cloud-zones", {"applicationProfileId": image})
    assert best.body["edgeCloudZones"][0]["edgeCloudZoneName"] == "pau"
    wanted = {"name": "map_1", "appId": image, "edgeCloudZoneId": edge_zone("atoll", "pau")}
    created = edge(metz, "POST", f"{ROOT}/appinstances", wanted)
    assert created.status == 202, created.body
    instance = created.body["appInstanceId"]

    def shown(api: Api) -> dict[str, Any]:
        (found,) = edge(api, "GET", f"{ROOT}/appinstances?appId={image}").body
        return dict(found)

    def ready() -> dict[str, Any] | None:
        """Return the instance when it can be reached: Nova's fake driver may end before the network is there, unlike libvirt's."""
        seen = shown(brest)
        return seen if seen["status"] == "ready" and "componentEndpointInfo" in seen else None

    found = until(ready, "the instance is ready", 120)
    assert found["edgeCloudZoneId"] == edge_zone("atoll", "pau")
    (point,) = found["componentEndpointInfo"]
    assert (point["interfaceId"], point["accessPoints"]["port"]) == ("tiles", 8443)
    (address,) = point["accessPoints"]["ipv4Addresses"]
    server = pau.expect("compute", "GET", f"/servers/{instance}")["server"]
    assert (server["name"], server["OS-EXT-AZ:availability_zone"]) == ("map_1", "pau")
    assert address in json.dumps(server["addresses"])

    for api in apis.values():
        answer = edge(api, "POST", ENDPOINTS, {"appId": image})
        (endpoint,) = answer.body["applicationEndpoints"]
        assert (endpoint["ipv4Addresses"], endpoint["edgeCloudZone"]["edgeCloudZoneName"]) == ([address], "pau")
    assert edge(others, "POST", ENDPOINTS, {"appId": image}).status == 404
    assert edge(others, "GET", f"{ROOT}/apps").body == edge(others, "GET", f"{ROOT}/appinstances").body == []
    assert edge(others, "DELETE", f"{ROOT}/appinstances/{instance}").status == 404
    assert edge(others, "DELETE", f"{ROOT}/apps/{image}").status == 404

    check_device(metz, pau, others)
    assert edge(brest, "POST", f"{ROOT}/appinstances", wanted).body["code"] == "ALREADY_EXISTS"
    assert edge(brest, "DELETE", f"{ROOT}/apps/{image}").body["code"] == "ABORTED"
    assert edge(brest, "DELETE", f"{ROOT}/appinstances/{instance}").status == 202
    until(lambda: edge(metz, "GET", f"{ROOT}/appinstances").body == [], "the instance is gone", 60)
    deleted(brest, f"{ROOT}/apps/{image}")
    for api in apis.values():
        assert edge(api, "GET", f"{ROOT}/apps/{image}").status == 404
        assert api.call("image", "GET", f"/v2/images/{image}").status == 200


PACKAGES, LIFE, MOBILITY = "/app_pkgm/v1/onboarded_app_packages", "/app_lcm/v1", "/amsi/v1"


def operated(api: Api, path: str, body: Any) -> None:
    """Begin an operation of MEC 010-2 on an instance, and wait until it is complete."""
    begun = edge(api, "POST", f"{LIFE}/app_instances/{path}", body)
    assert begun.status == 202, begun.body

    def state() -> str:
        (newest, *_older) = reversed(edge(api, "GET", f"{LIFE}/app_lcm_op_occs").body)
        assert newest["operationState"] != "FAILED", newest
        return str(newest["operationState"])

    until(lambda: state() == "COMPLETED", f"{path} is complete", 120)


def check_mobility(api: Api, others: Api, instance: str, server: str) -> None:
    """Have the application in a server register, forbid hand-offs, and end its registration."""
    device = {"associateId": "phone", "appMobilityServiceLevel": {"appMobilityServiceLevel": 1}}
    body = {"RegistrationInfo": {"serviceConsumerId": {"appInstanceId": server}, "deviceInformation": [device]}}
    one = f"{MOBILITY}/app_mobility_services/{server}"
    assert edge(others, "POST", f"{MOBILITY}/app_mobility_services", body).status == 404
    assert edge(api, "POST", f"{MOBILITY}/app_mobility_services", body).status == 201
    assert edge(others, "GET", one).status == 404
    metadata = api.expect("compute", "GET", f"/servers/{server}")["server"]["metadata"]
    assert (metadata["atoll_mobility_device_0"], metadata["atoll_app_instance"]) == ('["phone",1,0]', instance)
    assert edge(api, "PUT", one, {"RegistrationInfo": {"serviceConsumerId": {"appInstanceId": server}}}).status == 200
    assert edge(api, "DELETE", one).status == 204
    assert not {"atoll_mobility", "atoll_mobility_device_0"} & set(api.expect("compute", "GET", f"/servers/{server}")["server"]["metadata"])


def test_package_from_its_on_boarding_to_its_removal(victim: Tenant, attacker: Tenant, image: str) -> None:
    brest, metz, pau = (victim.api(site) for site in SITES)
    others = attacker.api("pau")
    digest = brest.expect("image", "GET", f"/v2/images/{image}")["os_hash_value"]
    package = {"appPkgName": "fire_map", "appPkgVersion": "1", "appProvider": "Forest_Watch", "appPkgPath": f"urn:uuid:{image}"}
    body = {"CreateAppPkg": package | {"checksum": {"algorithm": "SHA-512", "hash": digest}}}
    assert edge(others, "POST", PACKAGES, body).status == 404
    assert edge(metz, "POST", PACKAGES, body).status == 201
    assert edge(others, "GET", f"{PACKAGES}/{image}").status == 404
    for state in ("DISABLED", "ENABLED"):
        assert edge(pau, "PATCH", f"{PACKAGES}/{image}", {"AppPkgInfoModifications": {"operationalState": state}}).status == 200
        assert edge(brest, "GET", f"{PACKAGES}/{image}").body["AppPkgInfo"]["operationalState"] == state

    made = edge(metz, "POST", f"{LIFE}/app_instances", {"CreateAppInstanceRequest": {"appDId": image}})
    assert made.status == 201, made.body
    instance = made.body["AppInstanceInfo"]["id"]
    operated(metz, f"{instance}/instantiate", {"InstantiateAppRequest": {"selectedMECHostInfo": [{"hostId": {"site": "pau"}}]}})
    (server,) = pau.expect("compute", "GET", "/servers/detail")["servers"]
    assert server["OS-EXT-AZ:availability_zone"] == "pau"
    check_mobility(brest, others, instance, server["id"])
    for state in ("STOPPED", "STARTED"):
        operated(brest, f"{instance}/operate", {"OperateAppRequest": {"changeStateTo": state}})
        shown = edge(metz, "GET", f"{LIFE}/app_instances/{instance}").body["AppInstanceInfo"]
        assert shown["instantiatedAppState"] == {"operationalState": state}
    for path, body in (("operate", {"OperateAppRequest": {"changeStateTo": "STOPPED"}}), ("terminate", {})):
        assert edge(others, "POST", f"{LIFE}/app_instances/{instance}/{path}", body).status in {400, 404}
    assert edge(metz, "DELETE", f"{PACKAGES}/{image}").status == 403
    operated(metz, f"{instance}/terminate", {"TerminateAppRequest": {"terminationType": "GRACEFUL"}})
    until(lambda: pau.expect("compute", "GET", "/servers/detail")["servers"] == [], "the server is gone", 60)
    assert edge(metz, "DELETE", f"{LIFE}/app_instances/{instance}").status == 204
    deleted(metz, f"{PACKAGES}/{image}")


def test_device_runs_one_server_however_often_it_asks(victim: Tenant, image: str) -> None:
    cloud = victim.cloud

    def run(site: str) -> dict[str, Any]:
        account = {"OS_AUTH_URL": cloud.settings(site).public_url("identity", "/v3"), "OS_USERNAME": victim.name}
        account |= {"OS_PASSWORD": victim.password, "OS_PROJECT_NAME": victim.name}
        words = ("env", *(f"{name}={value}" for name, value in account.items()), ATOLL, "cloudlet", "run", "fire-map", "--json")
        found: dict[str, Any] = json.loads(cloud.atoll("exec", site, "--", *words))
        return found

    first = run("metz")
    assert (first["started"], first["name"]) == (True, "fire-map")
    assert first["address"].startswith("10.44.0.")
    for site in ("metz", "pau"):
        again = run(site)
        assert (again["server"], again["started"], again["site"]) == (first["server"], False, first["site"])
    server = victim.api("brest").expect("compute", "GET", f"/servers/{first['server']}")["server"]
    assert server["OS-EXT-AZ:availability_zone"] == first["site"]
    assert server["metadata"] == {"atoll_cloudlet_run": image}
