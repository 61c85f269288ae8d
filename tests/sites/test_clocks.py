"""Three sites, one with a clock an hour ahead or behind: changes that clocks order keep their order at all sites."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from clocked import ClockedCloud
from deployment import Deployment, until

from atoll.bench import workload
from atoll.bench.api import Answer

SITES = ("brest", "metz", "pau")
HOUR_S = 3600.0


class Cloud(ClockedCloud):
    """The sites and their clocks."""

    def set(self, site: str, ahead_s: float) -> None:
        """Set the clock of a site, and wait until the site detects the difference."""
        self.clocks.set(site, ahead_s)
        until(lambda: abs(self.ahead_s(site) - ahead_s) < 1, f"{site} knows that its clock is {ahead_s} s ahead", 60)

    def ahead_s(self, site: str) -> float:
        return float(json.loads(self.deployment.atoll("mesh", site, "--json"))["clock_ahead_s"])


@pytest.fixture(scope="module")
def built(make, tmp_path_factory) -> Cloud:
    return Cloud.start(make, tmp_path_factory.mktemp("clocks"), SITES)


@pytest.fixture
def cloud(built) -> Iterator[Cloud]:
    yield built
    built.clocks.correct()
    until(lambda: all(built.ahead_s(site) == 0 for site in SITES), "all clocks are right", 60)


class User:
    """A user that was created at a site."""

    def __init__(self, cloud: Deployment, site: str) -> None:
        self._cloud = cloud
        self.name, self.password = f"user-{uuid4().hex[:8]}", "first"
        admin = cloud.api_inside(site)
        user = {"name": self.name, "domain_id": "default", "password": self.password}
        self.id = admin.expect("identity", "POST", "/users", {"user": user})["user"]["id"]

    def _sign_in(self, site: str, password: str) -> Answer:
        user = {"name": self.name, "domain": {"id": "default"}, "password": password}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        return self._cloud.api_inside(site).call("identity", "POST", "/auth/tokens", body)

    def signs_in(self, site: str, password: str) -> bool:
        answer = self._sign_in(site, password)
        assert answer.status in {201, 401}, answer
        return answer.ok

    def token(self, site: str) -> str:
        answer = self._sign_in(site, self.password)
        assert answer.status == 201, answer
        return str(answer.headers["x-subject-token"])

    def set_password(self, site: str, password: str) -> None:
        answer = self._cloud.api_inside(site).call("identity", "PATCH", f"/users/{self.id}", {"user": {"password": password}})
        assert answer.status == 200, answer

    def counts(self, site: str, token: str) -> bool:
        answer = self._cloud.api_inside(site).call("identity", "GET", "/auth/tokens", headers={"X-Subject-Token": token})
        assert answer.status in {200, 404}, answer
        return answer.ok


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_the_password_that_was_set_last_is_accepted(cloud, ahead_s):
    deployment = cloud.deployment
    cloud.set("metz", ahead_s)
    user = User(deployment, "metz")
    until(lambda: all(user.signs_in(site, "first") for site in SITES), "the user is known everywhere", 30)
    cloud.clocks.correct()
    user.set_password("metz", "second")
    for site in SITES:
        until(lambda site=site: user.signs_in(site, "second"), f"the new password counts at {site}", 30)
        assert not user.signs_in(site, "first")


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_a_token_of_a_site_whose_clock_is_wrong_is_revoked_at_another(cloud, ahead_s):
    deployment = cloud.deployment
    cloud.set("metz", ahead_s)
    user = User(deployment, "brest")
    until(lambda: all(user.signs_in(site, "first") for site in SITES), "the user is known everywhere", 30)
    token = user.token("metz")
    until(lambda: user.counts("brest", token) and user.counts("metz", token), "its token counts everywhere", 30)
    user.set_password("brest", "second")
    for site in SITES:
        until(lambda site=site: not user.counts(site, token), f"the token ends at {site}", 30)
    user.password = "second"
    until(lambda: user.signs_in("metz", "second"), "the new password is known", 30)
    until(lambda: user.counts("metz", user.token("metz")), "a new token counts", 5)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_servers_boot_immediately_after_the_clock_was_set(cloud, ahead_s):
    api = cloud.deployment.api_inside("metz")
    tenancy = workload.prepare(api)
    first, _ = workload.boot(api, tenancy, "before")
    cloud.clocks.set("metz", ahead_s)
    servers = [workload.boot(api, tenancy, f"after-{number}")[0] for number in range(3)]
    services = api.expect("compute", "GET", "/os-services")["services"]
    assert {service["state"] for service in services} == {"up"}
    workload.delete(api, [first, *servers])
