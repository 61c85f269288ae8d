"""Tokens whose user, project and role a site has not received yet, because the mesh is cut off or blocked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from uuid import uuid4

import pytest
from deployment import Deployment, until
from three_sites import SITES, Tenant

from atoll.bench.api import Answer, Api

pytestmark = pytest.mark.long

PATHS = (("compute", "/servers"), ("network", "/v2.0/networks"), ("image", "/v2/images"), ("identity", "/v3/auth/projects"))
SENTENCE = "site brest lacks identity data of the token, and site metz, which issued it, can't be reached: try again later"


def with_token(cloud: Deployment, site: str, token: str) -> Api:
    api = cloud.api_inside(site)
    api._token = token
    return api


def stranger(cloud: Deployment) -> str:
    """Create a project and a member at metz, and return a token that metz issues to it."""
    name, password, admin = f"new-{uuid4().hex[:8]}", uuid4().hex, cloud.api_inside("metz")
    project = admin.expect("identity", "POST", "/projects", {"project": {"name": name, "domain_id": "default"}})["project"]["id"]
    user = admin.expect("identity", "POST", "/users", {"user": {"name": name, "domain_id": "default", "password": password}})["user"]["id"]
    (role,) = admin.expect("identity", "GET", "/roles?name=member")["roles"]
    assert admin.call("identity", "PUT", f"/projects/{project}/users/{user}/roles/{role['id']}").status == 204
    return cloud.api_inside("metz", name, password, name).token


def cut_off(cloud: Deployment) -> None:
    cloud.wan().cut("metz")
    until(lambda: "unreachable" in cloud.atoll("mesh", "brest"), "brest sees that metz is away", 60)


def answers(cloud: Deployment, token: str) -> list[Answer]:
    api = with_token(cloud, "brest", token)
    return [api.call(service, "GET", path.removeprefix("/v3") if service == "identity" else path) for service, path in PATHS]


def test_a_new_users_token_while_its_site_is_cut_off(cloud: Deployment) -> None:
    cut_off(cloud)
    token = stranger(cloud)
    for answer in answers(cloud, token):
        assert (answer.status, answer.headers["x-atoll-missing"]) == (503, "metz"), answer
        assert SENTENCE in str(answer.body)
    sign_in = {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}}
    assert with_token(cloud, "brest", "").call("identity", "POST", "/auth/tokens", sign_in).status == 503
    cloud.wan().heal()
    until(lambda: all(answer.ok for answer in answers(cloud, token)), "the token is valid at brest", 60)


def test_a_revoked_token_while_its_site_is_cut_off(cloud: Deployment, victim: Tenant) -> None:
    revoked, kept = (victim.api("metz").token for _ in range(2))
    cut_off(cloud)
    admin = cloud.api_inside("brest")
    assert admin.call("identity", "DELETE", "/auth/tokens", headers={"X-Subject-Token": revoked}).status == 204
    assert [answer.status for answer in answers(cloud, revoked)] == [401] * len(PATHS)
    assert [answer.status for answer in answers(cloud, kept)] == [200] * len(PATHS)
    assert admin.call("identity", "DELETE", f"/users/{victim.user}").status == 204
    statuses = [answer.status for answer in answers(cloud, kept)]
    # Keystone itself answers 404 to a client whose user it does not have; at a single site too.
    assert statuses == [401, 401, 401, 404], "brest knows that the user was deleted"


@pytest.fixture
def blocked(cloud: Deployment) -> Iterator[Deployment]:
    """Yield the cloud while the ports of the mesh are blocked, and those of the gateways are not."""
    rules = [
        ("--protocol", protocol, f"--{end}", str(cloud.settings(site).ports["mesh"]), "--jump", "DROP")
        for site in SITES
        for protocol in ("tcp", "udp")
        for end in ("dport", "sport")
    ]

    def each(action: str) -> None:
        for site in SITES:
            for rule in rules:
                done = cloud.run("exec", site, "--", "iptables", action, "INPUT", *rule)
                assert done.returncode == 0, done.stderr

    each("--append")
    try:
        yield cloud
    finally:
        each("--delete")


@pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables to block the mesh with")
def test_new_tokens_while_only_the_mesh_is_blocked(blocked: Deployment) -> None:
    until(lambda: "unreachable" in blocked.atoll("mesh", "brest"), "the mesh of brest can't reach metz", 60)
    for _ in range(6):
        assert [answer.status for answer in answers(blocked, stranger(blocked))] == [200] * len(PATHS)
