"""Three sites, of which one is off: it blocks nobody, and comes back after a day as it was, with all that was deleted meanwhile deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from clocked import ClockedCloud
from deployment import kill, until

from atoll.bench import workload
from atoll.bench.api import Answer, Api

pytestmark = pytest.mark.long

HERE, OTHER, AWAY = SITES = ("brest", "metz", "pau")
DAY_S = 25 * 3600.0
"""Longer than each limit of a day, and than the life of a token."""

IMAGE = {"disk_format": "raw", "container_format": "bare"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbF0pEGCr2jTmpRQBi3dNWDxRgQWB9x7VgNRnlK5yyF somebody"

BOUND_S = 20.0
"""Seconds that an answer may take on a busy machine. Where a site is waited for, it takes 30 s or more."""


class Cloud(ClockedCloud):
    """The sites and their clocks."""

    def api(self, site: str) -> Api:
        return self.deployment.api_inside(site)


@pytest.fixture(scope="module")
def cloud(make, tmp_path_factory) -> Cloud:
    return Cloud.start(make, tmp_path_factory.mktemp("clocks"), SITES)


def image(api: Api, **more: str) -> str:
    made = str(api.expect("image", "POST", "/v2/images", {"name": "away", **IMAGE, **more})["id"])
    assert api.call("image", "PUT", f"/v2/images/{made}/file", data=b"data" * 1024).ok
    return made


def network(api: Api) -> str:
    return str(api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "away"}})["network"]["id"])


def user(api: Api) -> str:
    fields = {"name": f"user-{uuid4().hex[:8]}", "domain_id": "default", "password": "first"}
    return str(api.expect("identity", "POST", "/users", {"user": fields})["user"]["id"])


def project(api: Api) -> str:
    fields = {"name": f"project-{uuid4().hex[:8]}", "domain_id": "default"}
    return str(api.expect("identity", "POST", "/projects", {"project": fields})["project"]["id"])


# One member is off


@dataclass
class Before:
    """Resources that were created while all sites ran."""

    server: str
    image: str
    kept: str
    network: str
    user: str
    project: str


@dataclass
class Walk:
    """Requests through one site while another is off; each must succeed, or name the site that it needs."""

    api: Api
    found: list[str] = field(default_factory=list)

    def ask(self, *words: Any, needs: bool = False, **more: Any) -> Answer:
        """Send a request, and note it if it has another outcome than it should.

        Args:
            words: see `Api.call`.
            needs: whether the request needs the site that is off.
            more: see `Api.call`.
        """
        begun = time.monotonic()
        answer = self.api.call(*words, **more)
        took = time.monotonic() - begun
        refused = answer.status == 503 and f"site {AWAY} can't be reached from {HERE}" in str(answer.body)
        if took > BOUND_S or (not refused if needs else not answer.ok):
            self.found.append(f"{words}: {answer.status} {answer.body} after {took:.1f} s")
        return answer

    def make(self, *words: Any, key: str = "", **more: Any) -> str:
        """Create a resource, and return its id."""
        body = self.ask(*words, **more).body
        return str((body[key] if key else body)["id"])


@pytest.fixture
def off(cloud) -> Iterator[Before]:
    api = cloud.api(AWAY)
    server = {"name": "away", "imageRef": image(api), "flavorRef": "1", "networks": "none"}
    here = cloud.api(HERE)
    before = Before(
        api.expect("compute", "POST", "/servers", {"server": server})["server"]["id"],
        server["imageRef"],
        image(here, atoll_keep="everywhere"),
        network(api),
        user(here),
        project(here),
    )
    until(lambda: api.call("image", "GET", f"/v2/images/{before.kept}").ok, "the copy is at every site")
    until(lambda: api.call("identity", "GET", f"/projects/{before.project}").ok, "the project is known everywhere")
    cloud.deployment.atoll("site", "kill", AWAY)
    yield before
    cloud.deployment.atoll("site", "start", AWAY)


def compute(walk: Walk, before: Before) -> None:
    boot = {"name": "web", "imageRef": before.kept, "flavorRef": "1", "networks": "none"}
    for zone in (HERE, OTHER):
        made = walk.make("compute", "POST", "/servers", {"server": {**boot, "availability_zone": zone}}, key="server")
        walk.ask("compute", "DELETE", f"/servers/{made}")
    walk.ask("compute", "POST", "/servers", {"server": {**boot, "availability_zone": AWAY}}, needs=True)
    walk.ask("compute", "POST", "/servers", {"server": {**boot, "imageRef": before.image}}, needs=True)
    walk.ask("compute", "POST", f"/servers/{before.server}/action", {"reboot": {"type": "HARD"}}, needs=True)
    walk.ask("compute", "DELETE", f"/servers/{before.server}", needs=True)
    console = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    walk.ask("compute", "POST", f"/servers/{before.server}/remote-consoles", console, needs=True)
    name = f"name-{uuid4().hex[:8]}"
    walk.ask("compute", "POST", "/os-keypairs", {"keypair": {"name": name, "type": "ssh", "public_key": KEY}})
    walk.ask("compute", "DELETE", f"/os-keypairs/{name}")
    flavor = walk.make("compute", "POST", "/flavors", {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 1}}, key="flavor")
    walk.ask("compute", "DELETE", f"/flavors/{flavor}")
    walk.ask("compute", "PUT", f"/os-quota-sets/{before.project}", {"quota_set": {"instances": 5}})


def networks(walk: Walk, before: Before) -> None:
    made = walk.make("network", "POST", "/v2.0/networks", {"network": {"name": "net"}}, key="network")
    walk.ask("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": made, "ip_version": 4, "cidr": "10.7.0.0/24"}})
    walk.ask("network", "PUT", f"/v2.0/networks/{made}", {"network": {"description": "changed"}})
    share = {"object_type": "network", "action": "access_as_shared", "target_tenant": before.project}
    policy = walk.make("network", "POST", "/v2.0/rbac-policies", {"rbac_policy": {**share, "object_id": made}}, key="rbac_policy")
    walk.ask("network", "DELETE", f"/v2.0/rbac-policies/{policy}")
    walk.ask("network", "POST", "/v2.0/rbac-policies", {"rbac_policy": {**share, "object_id": before.network}}, needs=True)
    walk.ask("network", "PUT", f"/v2.0/networks/{before.network}", {"network": {"description": "changed"}}, needs=True)
    walk.ask("network", "DELETE", f"/v2.0/networks/{made}")
    group = walk.make("network", "POST", "/v2.0/security-groups", {"security_group": {"name": "open"}}, key="security_group")
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}
    walk.ask("network", "POST", "/v2.0/security-group-rules", {"security_group_rule": rule})
    walk.ask("network", "DELETE", f"/v2.0/security-groups/{group}")
    walk.ask("network", "PUT", f"/v2.0/quotas/{before.project}", {"quota": {"network": 5}})


def images(walk: Walk, before: Before) -> None:
    for keep in ("everywhere", AWAY):
        made = walk.make("image", "POST", "/v2/images", {"name": "kept", **IMAGE, "atoll_keep": keep})
        walk.ask("image", "PUT", f"/v2/images/{made}/file", data=b"data" * 1024)
        walk.ask("image", "DELETE", f"/v2/images/{made}")
    walk.ask("image", "POST", "/v2/images", {"name": "two", **IMAGE}, needs=True, headers={"X-Scope": f"{{image: {HERE} & {AWAY}}}"})
    walk.ask("image", "GET", f"/v2/images/{before.image}", needs=True)
    walk.ask("image", "GET", f"/v2/images/{before.kept}/file")
    walk.ask("image", "DELETE", f"/v2/images/{before.kept}")


def identity(walk: Walk, before: Before) -> None:
    made = walk.make("identity", "POST", "/users", {"user": {"name": f"u-{uuid4().hex}", "password": "first"}}, key="user")
    (role,) = walk.ask("identity", "GET", "/roles?name=member").body["roles"]
    walk.ask("identity", "PUT", f"/projects/{before.project}/users/{made}/roles/{role['id']}")
    walk.ask("identity", "PATCH", f"/users/{before.user}", {"user": {"password": "second"}})
    token = walk.ask("identity", "POST", "/auth/tokens", walk.api.credentials()).headers["x-subject-token"]
    walk.ask("identity", "DELETE", "/auth/tokens", headers={"X-Subject-Token": token})
    walk.ask("identity", "DELETE", f"/users/{made}")


def lists(walk: Walk) -> None:
    for service, path in (
        ("compute", "/servers/detail"), ("compute", "/flavors"), ("compute", "/os-availability-zone"), ("compute", "/limits"),
        ("image", "/v2/images"), ("network", "/v2.0/networks"), ("network", "/v2.0/rbac-policies"),
    ):  # fmt: skip
        assert walk.ask(service, "GET", path).headers["x-atoll-missing"] == AWAY


def test_one_member_that_is_off_blocks_nobody(cloud, off):
    walk = Walk(cloud.api(HERE))
    walk.api.call("compute", "GET", "/servers")  # the first request after the kill may find out that the site is off
    lists(walk)
    for part in (compute, networks, images, identity):
        part(walk, off)
    assert walk.found == []
    deployment = cloud.deployment
    assert "unreachable" in deployment.atoll("mesh", HERE)
    assert deployment.atoll("site", "invite", "sete", "--at", HERE)
    assert AWAY in deployment.atoll("pending")
    assert deployment.refused("mesh", AWAY).startswith(f"the gateway of {AWAY} does not answer")


# A site that was away for a day


def servers(api: Api) -> dict[str, Any]:
    fields = ("name", "status", "created", "addresses", "OS-EXT-SRV-ATTR:instance_name", "OS-SRV-USG:launched_at", "OS-EXT-STS:task_state")
    shown = api.expect("compute", "GET", "/servers/detail")["servers"]
    return {each["id"]: [each[name] for name in fields] for each in shown if each["OS-EXT-AZ:availability_zone"] == AWAY}


def ports(api: Api, network_id: str) -> dict[str, Any]:
    fields = ("mac_address", "fixed_ips", "device_id", "binding:host_id", "status")
    shown = api.expect("network", "GET", f"/v2.0/ports?network_id={network_id}")["ports"]
    return {each["id"]: [each[name] for name in fields] for each in shown}


def pass_a_day(cloud: Cloud) -> None:
    """Set the clocks of the sites that run. Their gateways measure the life of their own tokens by a clock that nobody can set."""
    for site in (HERE, OTHER):
        cloud.clocks.set(site, DAY_S)
    pids = cloud.deployment.pids()
    kill(*(pids[f"{site}/gateway"] for site in (HERE, OTHER)))


def test_site_that_was_away_for_a_day_is_as_it_was(cloud):
    here, away = cloud.api(HERE), cloud.api(AWAY)
    tenancy = workload.prepare(away)
    stopped = workload.boot(away, tenancy, "stopped")[0]
    workload.boot(away, tenancy, "active")
    away.expect("compute", "POST", f"/servers/{stopped}/action", {"os-stop": None})
    until(lambda: away.call("compute", "GET", f"/servers/{stopped}").body["server"]["status"] == "SHUTOFF", "stopped")
    kept = image(here, atoll_keep="everywhere")
    until(lambda: away.call("image", "GET", f"/v2/images/{kept}").body.get("status") == "active", "the copy is at every site")
    gone = [("image", f"/v2/images/{kept}"), ("identity", f"/users/{user(here)}"), ("identity", f"/projects/{project(here)}")]
    for service, path in gone:
        until(lambda service=service, path=path: away.call(service, "GET", path).ok, f"{path} is known")
    before = servers(away), ports(away, tenancy.network)
    cloud.deployment.atoll("wan", "cut", AWAY)
    cloud.deployment.atoll("site", "kill", AWAY)
    pass_a_day(cloud)
    here = cloud.api(HERE)  # the former token has expired
    for service, path in gone:
        assert here.call(service, "DELETE", path).ok
    made = user(here)
    cloud.clocks.set(AWAY, DAY_S)
    cloud.deployment.atoll("site", "start", AWAY)
    away = cloud.api(AWAY)
    assert (servers(away), ports(away, tenancy.network)) == before, "the site is still cut off"
    cloud.deployment.atoll("wan", "heal")
    for service, path in gone:
        until(lambda service=service, path=path: away.call(service, "GET", path).status == 404, f"{path} is deleted at {AWAY}")
        assert cloud.api(OTHER).call(service, "GET", path).status == 404, f"{path} is back"
    until(lambda: away.call("identity", "GET", f"/users/{made}").ok, "a new user is known")
    until(lambda: "no operation waits" in cloud.deployment.atoll("pending"), "all is done")
    assert (servers(away), ports(away, tenancy.network)) == before
    until(lambda: servers(here) == before[0], f"{HERE} lists the servers of {AWAY}")
    again = workload.boot(away, tenancy, "again")[0]
    workload.delete(away, [again, *before[0]])
