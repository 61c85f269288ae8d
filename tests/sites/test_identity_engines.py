"""Three sites on three engines have the same users, projects, roles and passwords, also after a cut and a move."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from deployment import Deployment, until

from atoll.bench.api import Api
from atoll.errors import AtollError
from atoll.services import engines

pytestmark = pytest.mark.long

ENGINES = {"paris": "mariadb", "lyon": "postgresql", "nice": "redis"}
ONLY_KEYSTONE = dict.fromkeys(("placement", "glance", "neutron", "nova"), False)

MINUTES = 30
"""Time limit of the test: three servers, four starts and two moves, on a busy machine."""


@pytest.fixture(scope="module")
def cloud(make) -> Deployment:
    for engine in engines.SERVERS:
        if problem := engines.obstacle(engine)[0]:
            pytest.skip(problem)
    made: Deployment = make()
    sites = [{"name": name, "database": {"start": engine}, "services": ONLY_KEYSTONE} for name, engine in ENGINES.items()]
    made.atoll("up", made.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
    return made


def make_all(api: Api, name: str) -> dict[str, Any]:
    """Create a project, a role, a user with a password, and a grant."""
    identity = {"name": name, "domain_id": "default"}
    more = {"tags": ["a", "é"], "description": f"of {name}"}
    project = api.expect("identity", "POST", "/projects", {"project": identity | more})["project"]
    role = api.expect("identity", "POST", "/roles", {"role": {"name": name}})["role"]
    user = api.expect("identity", "POST", "/users", {"user": identity | {"password": f"first-{name}", "email": "😀@x"}})["user"]
    api.expect("identity", "PUT", f"/projects/{project['id']}/users/{user['id']}/roles/{role['id']}")
    return {"project": project, "role": role, "user": user}


def signs_in(cloud: Deployment, site: str, name: str, password: str) -> bool:
    with suppress(AtollError, OSError):
        return bool(cloud.api_inside(site, name, password, name))
    return False


def await_all(cloud: Deployment, made: dict[str, dict[str, Any]]) -> None:
    for site in ENGINES:
        for name in made:
            until(lambda site=site, name=name: signs_in(cloud, site, name, f"first-{name}"), f"{name} signs in at {site}")
        api = cloud.api_inside(site)
        for name, records in made.items():
            for kind, record in records.items():
                found = api.expect("identity", "GET", f"/{kind}s/{record['id']}")[kind]
                assert {**found, "links": None} == {**record, "links": None}, (site, name)


@pytest.mark.timeout(60 * MINUTES)
def test_identity_is_the_same_on_all_engines(cloud):
    admin = {site: cloud.api_inside(site) for site in ENGINES}
    made = {f"of-{site}": make_all(admin[site], f"of-{site}") for site in ENGINES}
    await_all(cloud, made)

    cloud.atoll("wan", "cut", "nice")
    made |= {f"apart-{site}": make_all(admin[site], f"apart-{site}") for site in ENGINES}
    user = made["of-paris"]["user"]["id"]
    admin["nice"].expect("identity", "PATCH", f"/users/{user}", {"user": {"email": "new@x"}})
    admin["lyon"].expect("identity", "PATCH", f"/users/{user}", {"user": {"description": "changed"}})
    gone = make_all(admin["nice"], "gone")["project"]["id"]
    cloud.atoll("wan", "heal")
    made["of-paris"]["user"] |= {"email": "new@x", "description": "changed"}
    for site in ENGINES:
        until(lambda site=site: cloud.api_inside(site).call("identity", "GET", f"/projects/{gone}").ok, f"{site} has what nice made")
        until(
            lambda site=site: cloud.api_inside(site).expect("identity", "GET", f"/users/{user}")["user"].get("description") == "changed",
            f"{site} has what lyon changed",
        )
    await_all(cloud, made)
    cloud.api_inside("lyon").expect("identity", "DELETE", f"/projects/{gone}")
    for site in ENGINES:
        until(lambda site=site: cloud.api_inside(site).call("identity", "GET", f"/projects/{gone}").status == 404, f"it is gone at {site}")

    cloud.atoll("wan", "cut", "nice")
    admin["nice"] = cloud.api_inside("nice")
    made["moved"] = make_all(admin["nice"], "moved")
    cloud.atoll("site", "stop", "nice")
    cloud.atoll("database", "move", "nice", "start:postgresql")
    cloud.atoll("database", "clean", "--yes", "nice")
    cloud.atoll("site", "start", "nice")
    cloud.atoll("wan", "heal")
    await_all(cloud, made)
    cloud.atoll("destroy", "--yes")
