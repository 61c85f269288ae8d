"""One cloud of three sites behind an emulated WAN for all tests of a session: brest, metz and pau, with records for guests.

The victim and the attacker are ordinary members of two projects. Every request goes through a gateway's public port.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import psutil
import pytest
from deployment import Deployment, await_exit, until

from atoll.bench.api import Api

SITES = ("brest", "metz", "pau")
TOPOLOGY = {"preset": "mesh", "defaults": {"delay": "10ms"}}
DEVICE_ROLE = "edge-application"
SERVES = {"metz": ["10.200.2.0/24"], "pau": ["10.200.0.0/16", "2001:db8::/32"]}


LONGEST_S = 600

_made: list[Deployment] = []
"""The running cloud, which the test directories of one session share."""


def only_root(items: list[pytest.Item]) -> None:
    """Set the time limit of each test, and skip all tests on machines that cannot run them."""
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="only root can be in the networks of sites by threads"))


@dataclass(frozen=True)
class Tenant:
    """An ordinary user: the role `member` in a project of its own.

    Attributes:
        cloud: the cloud.
        name: the name of the user and of the project.
        user: the user's id.
        project: the project's id.
        password: the user's password.
    """

    cloud: Deployment
    name: str
    user: str
    project: str
    password: str

    def api(self, site: str) -> Api:
        """Return a client in a site's network, signed in at the site's gateway."""
        return self.cloud.api_inside(site, self.name, self.password, self.name)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Iterator[Deployment]:
    if _made:
        yield _made[0]
        return
    made = Deployment(tmp_path_factory.mktemp("attacks") / "state")
    discovery = {"serves": SERVES, "device_role": DEVICE_ROLE}
    made.atoll(
        "up", made.file(*({"name": name, "compute": "fake", "network": "fake"} for name in SITES), topology=TOPOLOGY, discovery=discovery)
    )
    _made.append(made)
    yield made
    _made.clear()
    processes = [psutil.Process(pid) for pid in made.pids().values()]
    made.atoll("destroy", "--yes")
    await_exit(processes)


def sees_all(cloud: Deployment, site: str) -> bool:
    """Return whether a site's mesh considers all members alive."""
    members = json.loads(cloud.atoll("mesh", site, "--json"))["members"]
    return len(members) == len(SITES) and {each["state"] for each in members} == {"alive"}


@pytest.fixture
def cloud(built) -> Iterator[Deployment]:
    """Yield the cloud, and heal it before and after each test."""

    def whole() -> None:
        built.wan().heal()
        built.atoll("site", "start", *SITES)
        until(lambda: all(sees_all(built, site) for site in SITES), "all sites see each other", 60)

    whole()
    yield built
    whole()


def make_tenant(cloud: Deployment, site: str = "brest") -> Tenant:
    """Create a project and a member of it, and wait until all sites have them."""
    name, password = f"tenant-{uuid4().hex[:8]}", uuid4().hex
    admin = cloud.api_inside(site)
    project = admin.expect("identity", "POST", "/projects", {"project": {"name": name, "domain_id": "default"}})["project"]["id"]
    user = admin.expect("identity", "POST", "/users", {"user": {"name": name, "domain_id": "default", "password": password}})["user"]["id"]
    (role,) = admin.expect("identity", "GET", "/roles?name=member")["roles"]
    assert admin.call("identity", "PUT", f"/projects/{project}/users/{user}/roles/{role['id']}").status == 204
    for other in SITES:
        api = cloud.api_inside(other)
        until(
            lambda api=api: api.call("identity", "GET", f"/role_assignments?user.id={user}").body["role_assignments"],
            "the role is known",
            30,
        )
    return Tenant(cloud, name, user, project, password)


@pytest.fixture
def victim(cloud) -> Tenant:
    return make_tenant(cloud)


@pytest.fixture
def attacker(cloud) -> Tenant:
    return make_tenant(cloud)
