"""The edge APIs of CAMARA and ETSI at three sites: an application is submitted, started near a device, found by it, and removed."""

import json
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
    assert edge(far, "DELETE", f"{DEVICE}/app_contexts/{context}").status == 204
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

    until(lambda: shown(brest)["status"] == "ready", "the instance is ready", 120)
    found = shown(brest)
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
    assert edge(brest, "DELETE", f"{ROOT}/apps/{image}").status == 204
    for api in apis.values():
        assert edge(api, "GET", f"{ROOT}/apps/{image}").status == 404
        assert api.call("image", "GET", f"/v2/images/{image}").status == 200
