"""Attacks through ids, pending operations and grants with a gateway's authority, to reach a victim's resources.

Glance refuses an id that a user chooses. Two images can still have the same id at two sites, for example by an administrator's action.
So an administrator prepares here what the attacker then uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from deployment import Deployment, until
from three_sites import SITES, Tenant, make_tenant, sees_all

from atoll.bench.api import Answer, Api
from atoll.errors import AtollError

SECRET, JUNK = b"the victim's disk" * 1000, b"the attacker's disk" * 1000
PLAIN = {"disk_format": "raw", "container_format": "bare"}


def make_image(api: Api, data: bytes, **more: Any) -> str:
    """Create an image with data and return its id."""
    made = api.expect("image", "POST", "/v2/images", {"name": "i", **PLAIN, **more})
    assert api.call("image", "PUT", f"/v2/images/{made['id']}/file", data=data).status == 204
    return str(made["id"])


def squat(cloud: Deployment, site: str, image: str, attacker: Tenant, data: bytes = b"", **more: Any) -> None:
    """Create an image of the attacker under an id at a site, past its gateway, which would refuse a used id."""
    admin = cloud.api_inside(site)
    admin._endpoints["image"] = cloud.settings(site).url("image")
    admin.expect("image", "POST", "/v2/images", {"id": image, "owner": attacker.project, "name": "mine", **PLAIN, **more})
    if data:
        assert admin.call("image", "PUT", f"/v2/images/{image}/file", data=data).status == 204


def at_site(cloud: Deployment, site: str, image: str) -> dict[str, Any]:
    """Return an image from the Glance of one site."""
    answer = cloud.api_inside(site).call("image", "GET", f"/v2/images/{image}", headers={"X-Scope": f"{{image: {site}}}"})
    return answer.body if answer.ok else {}


def members(cloud: Deployment, site: str, image: str) -> list[str]:
    scope = {"X-Scope": f"{{image: {site}}}"}
    body = cloud.api_inside(site).call("image", "GET", f"/v2/images/{image}/members", headers=scope).body
    return [each["member_id"] for each in body["members"]]


def differing(cloud: Deployment, site: str, identifier: str) -> list[dict[str, Any]]:
    """Return the conflicts that a site reports to its operator for an id."""
    return [each for each in json.loads(cloud.atoll("conflicts", site, "--json"))["differing"] if each["id"] == identifier]


def pending(cloud: Deployment, site: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cloud.atoll("pending", "--site", site, "--json"))["pending"]
    return found


def cut(cloud: Deployment, site: str) -> None:
    """Cut a site off, and wait until the others notice."""
    cloud.wan().cut(site)
    others = [each for each in SITES if each != site]
    until(lambda: not any(sees_all(cloud, each) for each in others), f"{site} is known to be away", 60)


def heal(cloud: Deployment) -> None:
    cloud.wan().heal()
    until(lambda: all(sees_all(cloud, each) for each in SITES), "all sites see each other", 60)


def boot(tenant: Tenant, site: str, image: str) -> Answer:
    api = tenant.api(site)
    flavor = next(each["id"] for each in api.expect("compute", "GET", "/flavors")["flavors"] if each["name"] == "m1.tiny")
    return api.call("compute", "POST", "/servers", {"server": {"name": "s", "imageRef": image, "flavorRef": flavor, "networks": "none"}})


@pytest.mark.parametrize("scope", ["", "{image: brest & metz}"])
def test_tenant_chooses_no_id(cloud, victim, attacker, scope):
    image = make_image(victim.api("brest"), SECRET, visibility="private")
    for site in SITES:
        body = {"id": image if site != "brest" else str(uuid4()), "name": "mine", "atoll_keep": site, **PLAIN}
        headers = {"X-Scope": scope} if scope else {}
        # Nor with headers that only gateways may send.
        for said in (headers, {**headers, "X-Atoll-Given-Id": "1"}, {**headers, "X-Service-Token": attacker.api(site).token}):
            assert attacker.api(site).call("image", "POST", "/v2/images", body, headers=said).status in {401, 403}
    assert (at_site(cloud, "metz", image), at_site(cloud, "pau", image)) == ({}, {})
    network = {"network": {"id": str(uuid4()), "name": "n"}}
    assert attacker.api("metz").call("network", "POST", "/v2.0/networks", network).status == 403


def test_scope_still_makes_the_same_image_at_two_sites(cloud, victim):
    api = victim.api("brest")
    made = api.call("image", "POST", "/v2/images", {"name": "i", **PLAIN}, headers={"X-Scope": "{image: brest & metz}"})
    assert made.status == 201, made
    image = made.body["id"]
    assert api.call("image", "PUT", f"/v2/images/{image}/file", data=SECRET).status == 204
    until(lambda: at_site(cloud, "metz", image).get("status") == "active", "metz has the data", 60)
    assert at_site(cloud, "metz", image)["owner"] == victim.project
    network = api.call("network", "POST", "/v2.0/networks", {"network": {"name": "n"}}, headers={"X-Scope": "{network: brest & metz}"})
    assert network.status == 201, network
    there = cloud.api_inside("metz").expect("network", "GET", f"/v2.0/networks/{network.body['network']['id']}")["network"]
    assert there["project_id"] == victim.project


def test_keeper_puts_nothing_into_an_image_that_has_the_id(cloud, victim, attacker):
    image = make_image(victim.api("brest"), SECRET, visibility="private")
    squat(cloud, "pau", image, attacker)
    # The policy goes through the gateway, which records it.
    patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    keep = [{"op": "add", "path": "/atoll_keep", "value": "pau"}]
    assert attacker.api("pau").call("image", "PATCH", f"/v2/images/{image}", keep, headers=patch).ok
    until(lambda: differing(cloud, "pau", image), "the conflict is reported to the operator", 60)
    assert at_site(cloud, "pau", image)["status"] == "queued"
    assert attacker.api("pau").call("image", "GET", f"/v2/images/{image}/file").body != SECRET.decode()[:300]


def test_booting_with_the_id_of_anothers_image_shares_nothing(cloud, victim, attacker):
    image = make_image(victim.api("pau"), SECRET, visibility="shared")
    squat(cloud, "brest", image, attacker, JUNK, visibility="shared")
    assert boot(attacker, "pau", image).status == 409
    assert members(cloud, "pau", image) == []
    assert differing(cloud, "pau", image)


def test_community_image_does_not_stand_in_for_a_public_one(cloud, victim, attacker):
    image = make_image(cloud.api_inside("metz"), SECRET, visibility="public")
    squat(cloud, "brest", image, attacker, JUNK, visibility="community")
    assert boot(victim, "pau", image).status == 409
    assert at_site(cloud, "pau", image) == {}
    assert differing(cloud, "pau", image)


@pytest.mark.parametrize(
    ("method", "child", "body"),
    [("DELETE", "", None), ("POST", "/members", {}), ("PATCH", "", [{"op": "replace", "path": "/name", "value": "stolen"}])],
)
def test_nothing_is_replayed_on_anothers_image(cloud, victim, attacker, *, method, child, body):
    image = make_image(victim.api("pau"), SECRET, visibility="shared")
    squat(cloud, "brest", image, attacker, JUNK, visibility="shared")
    before = at_site(cloud, "pau", image)
    cut(cloud, "pau")
    media = {"Content-Type": "application/openstack-images-v2.1-json-patch"} if method == "PATCH" else {}
    body = {"member": attacker.project} if body == {} else body
    assert attacker.api("brest").call("image", method, f"/v2/images/{image}{child}", body, headers=media).ok
    heal(cloud)
    until(lambda: not [each for each in pending(cloud, "brest") if image in each["what"]], "nothing waits any more", 60)
    assert at_site(cloud, "pau", image) == before
    assert members(cloud, "pau", image) == []
    assert differing(cloud, "brest", image), "the conflict is reported to the operator"


def test_owners_own_change_is_carried_to_a_site_that_was_cut_off(cloud, victim):
    image = make_image(victim.api("brest"), SECRET, visibility="private", atoll_keep="pau")
    until(lambda: at_site(cloud, "pau", image).get("status") == "active", "pau has a copy", 60)
    cut(cloud, "pau")
    assert victim.api("brest").call("image", "DELETE", f"/v2/images/{image}").status == 204
    heal(cloud)
    until(lambda: at_site(cloud, "pau", image) == {}, "the copy is deleted", 60)


def ends(cloud: Deployment, attacker: Tenant, service: str, path: str, withdraw: Callable[[], Answer]) -> None:
    """Check that a project loses a right at pau after its owner withdrew it elsewhere while pau was cut off."""
    assert attacker.api("pau").call(service, "GET", path).status == 200
    cut(cloud, "pau")
    assert withdraw().ok
    heal(cloud)
    until(lambda: attacker.api("pau").call(service, "GET", path).status == 404, "the share has ended at pau", 60)


def test_network_is_no_longer_shared_at_a_site_that_was_cut_off(cloud, victim, attacker):
    owner = victim.api("brest")
    network = owner.expect("network", "POST", "/v2.0/networks", {"network": {"name": "n"}})["network"]["id"]
    owner.expect("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4}})
    policy = {"object_type": "network", "object_id": network, "action": "access_as_shared", "target_tenant": attacker.project}
    shared = owner.expect("network", "POST", "/v2.0/rbac-policies", {"rbac_policy": policy})["rbac_policy"]["id"]
    scope = {"X-Scope": "{network: pau}"}
    port = attacker.api("pau").call("network", "POST", "/v2.0/ports", {"port": {"network_id": network}}, headers=scope)
    assert port.status == 201, port
    assert attacker.api("pau").call("network", "DELETE", f"/v2.0/ports/{port.body['port']['id']}").status == 204
    ends(
        cloud,
        attacker,
        "network",
        f"/v2.0/networks/{network}",
        lambda: victim.api("brest").call("network", "DELETE", f"/v2.0/rbac-policies/{shared}"),
    )
    assert victim.api("pau").call("network", "GET", f"/v2.0/networks/{network}").status == 200, "the owner must still see the network"


def test_member_of_an_image_is_none_at_a_site_that_was_cut_off(cloud, victim, attacker):
    image = make_image(victim.api("brest"), SECRET, visibility="shared")
    victim.api("brest").expect("image", "POST", f"/v2/images/{image}/members", {"member": attacker.project})
    assert boot(attacker, "pau", image).status == 202
    assert members(cloud, "pau", image) == [attacker.project]
    ends(
        cloud,
        attacker,
        "image",
        f"/v2/images/{image}",
        lambda: victim.api("brest").call("image", "DELETE", f"/v2/images/{image}/members/{attacker.project}"),
    )


def test_third_project_gets_nothing_by_a_copy(cloud, victim, attacker):
    """A resource that is shared with one project stays hidden from others at a site that has a copy for the first."""
    image = make_image(victim.api("brest"), SECRET, visibility="shared")
    friend = make_tenant(cloud)
    victim.api("brest").expect("image", "POST", f"/v2/images/{image}/members", {"member": friend.project})
    assert boot(friend, "pau", image).status == 202
    assert boot(attacker, "pau", image).status in {400, 404}
    assert attacker.api("pau").call("image", "GET", f"/v2/images/{image}").status == 404


def test_gateways_account_is_good_at_one_service_of_its_own_site(cloud):
    def account(site: str, of: str, service: str) -> Api:
        settings = cloud.settings(site)
        url = settings.public_url("identity", "/v3")
        inside = type(cloud.api_inside(site))
        api = inside(cloud.wan().namespace(site), url, cloud.settings(of).secrets["gateway"], f"gateway_{service}", project="service")
        api.sign_in()
        return api

    api = account("brest", "brest", "image")
    assert api.call("image", "GET", "/v2/images").status == 200
    assert api.call("identity", "GET", "/users").status == 403
    assert api.call("compute", "GET", "/servers/detail?all_tenants=1").status == 403
    flavor = {"flavor": {"name": uuid4().hex, "ram": 1, "vcpus": 1, "disk": 1}}
    assert api.call("compute", "POST", "/flavors", flavor).status == 403
    with pytest.raises(AtollError):
        account("metz", "brest", "image")
    # Its token is not valid at another site.
    elsewhere = account("metz", "metz", "network")
    elsewhere._token = api.token
    assert elsewhere.call("image", "GET", "/v2/images", headers={"X-Scope": "{image: metz}"}).status == 401
    with pytest.raises(AtollError):
        api._user, api._project = f"gateway-{'brest'}", "admin"
        api.sign_in()
