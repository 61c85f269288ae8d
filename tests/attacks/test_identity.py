"""Attacks of tenants and members on the replicated identity.

The entries of a compromised member are written directly into its stream with its own key, past its Keystone.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from deployment import Deployment, await_exit, until

from atoll.bench.api import Api
from atoll.bench.workspace import free_ports
from atoll.mesh.clock import HybridClock
from atoll.mesh.document import Change, Document
from atoll.mesh.signing import Signer
from atoll.mesh.store import Store
from atoll.services import Settings
from atoll.services.patches.keystone.bounds import TRUSTS_PER_USER
from atoll.services.patches.keystone.trust import AUDIT_FILE

SITES = ("brest", "metz", "pau")
MARIE, NANCY = "d" * 32, "e" * 32
KEYSTONE_ALONE = {"nova": False, "neutron": False, "glance": False, "placement": False}


def document(cloud: Deployment, site: str) -> dict[str, int]:
    return json.loads(cloud.atoll("mesh", site, "--json"))["document"]


def is_equal(cloud: Deployment, sites: tuple[str, ...]) -> bool:
    return all(member["equal"] for site in sites for member in json.loads(cloud.atoll("mesh", site, "--json"))["members"])


def trust_of(user: str, project: str, **more: object) -> dict[str, object]:
    roles = [{"name": "member"}]
    return {
        "trust": {"trustor_user_id": user, "trustee_user_id": user, "project_id": project, "impersonation": False, "roles": roles} | more
    }


class Member(Document):
    """The document of a stopped site in the hands of an attacker with its key, who ignores all rules."""

    def __init__(self, settings: Settings) -> None:
        self.file = settings.data / "gateway/mesh/document.db"
        self.backup = self.file.with_suffix(".backup")
        key = (settings.tls / "key.pem").read_bytes()
        self.store = Store(self.file)
        self.store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(self.file, self.backup)
        super().__init__(self.store, settings.site, Signer(key), HybridClock(lambda: time.time_ns() // 10**6), lambda _: None)

    def restore(self) -> None:
        for path in self.file.parent.glob("document.db*"):
            path.unlink()
        self.backup.rename(self.file)


def test_a_tenant_cant_fill_the_identity_of_the_cloud(cloud, attacker):
    api = attacker.api("brest")
    before = document(cloud, "brest")["bytes"]
    for size in (100, 5_000, 110_000):
        answer = api.call("identity", "POST", "/OS-TRUST/trusts", trust_of(attacker.user, attacker.project, junk="x" * size))
        assert answer.status in {400, 413}
        assert "\n" not in answer.body["error"]["message"]
    made: list[str] = []
    for _ in range(TRUSTS_PER_USER + 40):
        answer = api.call("identity", "POST", "/OS-TRUST/trusts", trust_of(attacker.user, attacker.project))
        if answer.status != 201:
            break
        made.append(answer.body["trust"]["id"])
    assert (len(made), answer.status) == (TRUSTS_PER_USER, 403)
    for each in made:
        assert api.call("identity", "DELETE", f"/OS-TRUST/trusts/{each}").status == 204
    for _ in range(60):
        each = api.expect("identity", "POST", "/OS-TRUST/trusts", trust_of(attacker.user, attacker.project))["trust"]["id"]
        assert api.call("identity", "DELETE", f"/OS-TRUST/trusts/{each}").status == 204
    credential = {"application_credential": {"name": "a", "description": "x" * 5000}}
    assert api.call("identity", "POST", f"/users/{attacker.user}/application_credentials", credential).status == 400
    until(lambda: is_equal(cloud, SITES), "all sites agree", 60)
    for site in SITES:
        assert document(cloud, site)["bytes"] - before < (TRUSTS_PER_USER + 60) * 400, (
            "deleted trusts must leave little behind in the document"
        )
    cloud.atoll("site", "stop", "brest")
    cloud.atoll("site", "start", "brest")
    until(lambda: is_equal(cloud, SITES), "what was written is read again", 60)
    assert attacker.api("brest").token
    assert attacker.api("metz").token


def test_entries_of_a_compromised_member_beyond_the_bounds_are_refused(cloud, victim):
    cloud.atoll("site", "stop", "metz")
    member = Member(cloud.settings("metz"))
    writes = [
        Change("identity.user", victim.user, {"extra.note": ["note", json.dumps("x" * 100_000)]}),
        Change("identity.user", victim.user, {"unknown": 1}),
        Change("identity.trust", "f" * 32, {"present": True, "trustor_user_id": victim.user, "extra.junk": ["junk", '"x"']}),
    ]
    try:
        with closing(member.store):
            for write in writes:
                member.write([write])
        cloud.atoll("site", "start", "metz")
        api = cloud.api_inside("brest")
        made = api.expect("identity", "POST", "/users", {"user": {"name": f"after-{victim.name}", "domain_id": "default"}})["user"]["id"]
        until(lambda: cloud.api_inside("pau").call("identity", "GET", f"/users/{made}").status == 200, "the others go on", 30)
        until(lambda: "senseless" in json.loads(cloud.atoll("mesh", "brest", "--json"))["refused"], "brest refuses it", 60)
        for site in ("brest", "pau"):
            assert "note" not in cloud.api_inside(site).expect("identity", "GET", f"/users/{victim.user}")["user"]
    finally:
        cloud.atoll("site", "stop", "metz")
        member.restore()
        cloud.atoll("site", "start", "metz")
    until(lambda: is_equal(cloud, SITES), "metz is one of them again", 60)


# --- A cloud in which metz is trusted for no more than itself


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("guarded") / "state")
    ports = free_ports(2, first=26000)
    path = made.file(
        *({"name": name, "port": port, "services": KEYSTONE_ALONE} for name, port in zip(("brest", "metz"), ports, strict=True))
    )
    homed = [{"domain": MARIE, "sites": ["brest"]}, {"domain": NANCY, "sites": ["metz"]}]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"trust": {"metz": "local-admin"}, "homed": homed}))
    made.atoll("up", path)
    yield made
    processes = [psutil.Process(pid) for pid in made.pids().values()]
    made.atoll("destroy", "--yes")
    await_exit(processes)


def make_domain(api: Api, domain: str, name: str) -> None:
    answer = api.call("identity", "POST", "/domains", {"domain": {"name": name, "explicit_domain_id": domain}})
    assert answer.status in {201, 409}, answer


def make_user(api: Api, name: str, domain: str) -> str:
    body = {"user": {"name": name, "domain_id": domain, "password": "secret"}}
    return api.expect("identity", "POST", "/users", body)["user"]["id"]


def knows(api: Api, user: str) -> bool:
    return api.call("identity", "GET", f"/users/{user}").status == 200


def audit(cloud: Deployment, site: str) -> list[dict[str, object]]:
    path = Path(cloud.settings(site).directory) / "log" / AUDIT_FILE
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_administrators_token_of_a_limited_site_is_of_no_use_elsewhere(guarded):
    here, there = guarded.api("brest"), guarded.api("metz")
    assert here.call("identity", "GET", "/users", headers={"X-Auth-Token": there.token}).status == 401
    assert there.call("identity", "GET", "/users", headers={"X-Auth-Token": here.token}).status == 200
    (refused, *_) = [line for line in audit(guarded, "brest") if line["site"] == "metz"]
    assert (refused["outcome"], refused["roles"]) == ("refused", ["admin"])
    allowed = [line for line in audit(guarded, "metz") if line["site"] == "brest"]
    assert allowed
    assert {line["outcome"] for line in allowed} == {"allowed"}
    assert any("/users" in str(line["request"]) for line in allowed)


def test_projects_homed_elsewhere_cant_be_changed(guarded):
    here, there = guarded.api("brest"), guarded.api("metz")
    make_domain(here, MARIE, "physics")
    user = make_user(here, f"marie-{time.time_ns()}", MARIE)
    until(lambda: knows(there, user), "metz knows", 30)
    answer = there.call("identity", "PATCH", f"/users/{user}", {"user": {"enabled": False}})
    assert answer.status == 403
    assert "administered at brest" in answer.body["error"]["message"]
    assert here.call("identity", "PATCH", f"/users/{user}", {"user": {"description": "x"}}).ok


def test_a_limited_member_that_was_broken_into_administers_nothing_elsewhere(guarded):
    here, there = guarded.api("brest"), guarded.api("metz")
    make_domain(here, MARIE, "physics")
    make_domain(there, NANCY, "its-own")
    user, stranger = make_user(here, f"victim-{time.time_ns()}", MARIE), make_user(there, f"of-metz-{time.time_ns()}", NANCY)
    until(lambda: knows(there, user) and knows(here, stranger), "both know both", 30)
    admin = here.expect("identity", "GET", "/users?name=admin")["users"][0]["id"]
    project = here.expect("identity", "GET", "/projects?name=admin")["projects"][0]["id"]
    role = here.expect("identity", "GET", "/roles?name=admin")["roles"][0]["id"]
    grants = [("identity.assignment", f"UserProject,{stranger},{project},{role},0")]
    grants.append(("identity.system_assignment", f"UserSystem,{stranger},system,{role},0"))
    write_past_keystone(
        guarded,
        *(Change("identity.user", each, {"enabled": 0}) for each in (user, admin)),
        Change("identity.user", user, {"present": False}),
        *(Change(*grant, {"present": True}) for grant in grants),
        Change("identity.user", stranger, {"extra.mark": ["mark", '"1"']}),
    )
    try:
        until(lambda: here.expect("identity", "GET", f"/users/{stranger}")["user"].get("mark") == "1", "what is its own has come", 60)
        for each in (user, admin):
            assert here.expect("identity", "GET", f"/users/{each}")["user"]["enabled"] is True
        assert here.expect("identity", "GET", f"/role_assignments?user.id={stranger}")["role_assignments"] == []
    finally:
        undone = [Change(*grant, {"present": False}) for grant in grants]
        write_past_keystone(guarded, Change("identity.user", admin, {"enabled": 1}), *undone)


def write_past_keystone(cloud: Deployment, *changes: Change) -> None:
    cloud.atoll("site", "stop", "metz")
    member = Member(cloud.settings("metz"))
    with closing(member.store):
        for change in changes:
            member.write([change])
    cloud.atoll("site", "start", "metz")


def test_a_site_that_joins_after_all_this_has_what_the_others_have(guarded):
    here = guarded.api("brest")
    user = make_user(here, f"before-{time.time_ns()}", "default")
    guarded.atoll("site", "add", "pau")
    until(lambda: knows(guarded.api("pau"), user), "the new site knows", 60)
    until(lambda: is_equal(guarded, ("brest", "pau")), "they agree", 60)
