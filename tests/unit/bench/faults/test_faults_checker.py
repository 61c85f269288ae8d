"""The checker finds the one fault in each hand-made log and set of sites."""

from dataclasses import replace
from typing import Any

import pytest

from atoll.bench.faults import resource_checks
from atoll.bench.faults.checker import check, questions
from atoll.bench.faults.history import histories
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.replay import keep, kept_evidence, kept_schedule
from atoll.bench.faults.schedule import schedule
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import count
from atoll.bench.faults.workloads.images import checksum
from atoll.errors import AtollError

ADMIN = {"name": "admin", "domain_id": "default", "enabled": True, "description": ""}
USER = {"name": "ann", "domain_id": "default", "enabled": True, "description": "new"}
PROJECT = {"name": "p", "domain_id": "default", "enabled": True, "description": "d", "parent_id": "default"}
UPLOAD = {"seed": 1, "size": 10}
IMAGE = {"name": "image-1", "status": "active", "size": 10, "checksum": checksum(**UPLOAD), "owner": "admins"}
SERVER = {"name": "server-1", "status": "ACTIVE", "tenant_id": "admins", "user_id": "admin", "task": None, "zone": "lyon"}
PORT = {"device_id": "s1", "device_owner": "compute:lyon", "project_id": "admins", "network_id": "net"}
GRANT = "member/u1/p1"


def attempt(kind: str, resource: str, id_: str = "", at: float = 0.0, **said: Any) -> Attempt:
    """Return an attempt of a client at paris, acknowledged by default; other keywords are its fields."""
    outcome, client = said.pop("outcome", "acknowledged"), said.pop("client", "paris/0")
    return Attempt(client, int(at * 10), kind, resource, said, id_, at, at + 0.5, outcome, "200")


LOG = [
    attempt("user.create", "user-1", "u1", 1, name="ann", password="old", description="old"),
    attempt("user.describe", "user-1", "u1", 2, description="new"),
    attempt("user.password", "user-1", "u1", 3, password="latest"),
    attempt("project.create", "project-1", "p1", 3, name="p", description="d"),
    attempt("grant.create", "user-1/project-1", GRANT, 4),
    attempt("user.create", "user-2", "u2", 4, name="bob", password="x", description=""),
    attempt("user.delete", "user-2", "u2", 5),
    attempt("image.create", "image-1", "i1", 5, name="image-1"),
    attempt("image.upload", "image-1", "i1", 6, **UPLOAD),
    attempt("image.create", "image-2", "i2", 6, name="image-2"),
    attempt("image.delete", "image-2", "i2", 7),
    attempt("server.create", "server-1", "s1", 7, name="server-1", zone="lyon"),
    attempt("server.create", "server-2", "", 8, outcome="failed", name="server-2", zone=""),
]


def before(site: str) -> View:
    identity = {"users": {"admin": ADMIN}, "projects": {"admins": {**PROJECT, "name": "admin"}}, "assignments": {"admin/admin/admins": {}}}
    return View(site, identity=identity, images={"base": {**IMAGE, "name": "bench"}}, networks={"net": {"name": "bench"}})


def after(site: str, **more: Any) -> View:
    """Return the view of a site without violations."""
    begun = before(site)
    identity = {
        "users": {**begun.users, "u1": USER},
        "projects": {**begun.projects, "p1": PROJECT},
        "assignments": {**begun.assignments, GRANT: {}},
    }
    lists = {"image": ("base", "i1"), "server": ("s1",)}
    made = replace(begun, identity=identity, listed=lists, accepted={"u1": ("latest",)})
    if site == "paris":
        made = replace(made, images={**begun.images, "i1": IMAGE})
    if site == "lyon":
        made = replace(made, servers={"s1": SERVER}, ports={"port": PORT}, allocations=("s1",))
    return replace(made, **more)


def with_identity(view: View, **kinds: Any) -> View:
    return replace(view, identity={**view.identity, **kinds})


BEFORE = [before(site) for site in ("paris", "lyon")]
PARIS, LYON = after("paris"), after("lyon")


def found(views: list[View], log: list[Attempt] = LOG) -> list[tuple[str, str]]:
    return [(violation.kind, violation.what) for violation in check(log, BEFORE, views)]


def both(**kinds: Any) -> list[View]:
    return [with_identity(view, **kinds) for view in (PARIS, LYON)]


def users(**changed: Any) -> dict[str, Any]:
    return {**PARIS.users, **changed}


def test_a_cloud_that_is_as_it_should_be():
    assert found([PARIS, LYON]) == []


@pytest.mark.parametrize(
    ("views", "kind", "said"),
    [
        (both(users={"admin": ADMIN}, assignments=before("paris").assignments), "lost", "user-1 is not at lyon"),
        (both(users=users(u1={**USER, "description": "old"})), "lost", "description of user-1 is 'old' at paris"),
        (both(users=users(u1={**USER, "enabled": False})), "", ""),
        (both(users=users(u1={**USER, "name": "eve"})), "lost", "user-1 is called eve"),
        (both(users=users(u1={**USER, "name": "ann-u1"})), "lost", "user-1 is called ann-u1"),
        (both(users=users(u2={**USER, "name": "bob"})), "lost", "user-2 is still at paris"),
        (both(assignments=before("paris").assignments), "lost", "user-1/project-1 is not granted at lyon"),
        (both(projects={**PARIS.projects, "p1": {**PROJECT, "description": "?"}}), "lost", "description of project-1"),
        ([replace(PARIS, accepted={"u1": ()}), replace(LYON, accepted={"u1": ()})], "lost", "paris doesn't accept the password of user-1"),
        ([PARIS, with_identity(LYON, groups={"g": {"name": "g"}})], "different", "1 groups of paris and lyon"),
        ([PARIS, with_identity(LYON, users=users(u1={**USER, "description": "old"}))], "different", "1 users of paris and lyon"),
        (both(users=users(u9=USER)), "duplicated", "2 users called ann in domain default at paris"),
        (both(users=users(u9={**USER, "name": "mallory"})), "orphan", "user mallory u9 at paris: no request created it"),
        (both(assignments={**PARIS.assignments, "member/u7/p1": {}}), "orphan", "assignment member/u7/p1 at paris"),
        (both(assignments={**PARIS.assignments, "member/u1/p7": {}}), "orphan", "assignment member/u1/p7 at lyon"),
        ([replace(PARIS, images=BEFORE[0].images), LYON], "lost", "image-1 is at no site"),
        ([replace(PARIS, listed={**PARIS.listed, "image": ("base",)}), LYON], "lost", "image-1 is not in the list of the gateway of paris"),
        ([replace(PARIS, shown={"/servers/s1": 404}), LYON], "lost", "server-1 is not shown by the gateway of paris (404)"),
        ([replace(PARIS, images={**PARIS.images, "i1": {**IMAGE, "status": "queued"}}), LYON], "lost", "image-1 at paris is not what"),
        ([replace(PARIS, images={**PARIS.images, "i1": {**IMAGE, "checksum": "0"}}), LYON], "lost", "image-1 at paris is not what"),
        ([replace(PARIS, images={**PARIS.images, "i2": {**IMAGE, "name": "image-2"}}), LYON], "lost", "image-2 is still at paris"),
        ([replace(PARIS, listed={**PARIS.listed, "image": ("base", "i1", "i2")}), LYON], "lost", "image-2 is still in the list"),
        ([replace(PARIS, shown={"/v2/images/i2": 200}), LYON], "lost", "image-2 is still shown by the gateway of paris (200)"),
        ([PARIS, replace(LYON, images={**LYON.images, "i1": IMAGE})], "duplicated", "image i1 is at paris, lyon"),
        ([replace(PARIS, servers={"s1": SERVER}), LYON], "duplicated", "server s1 is at paris, lyon"),
        ([replace(PARIS, listed={**PARIS.listed, "server": ("s1", "s1")}), LYON], "duplicated", "server s1 is 2 times in the list"),
        ([replace(PARIS, servers={"s9": SERVER}), LYON], "duplicated", "2 servers are called server-1"),
        ([PARIS, replace(LYON, servers={"s1": {**SERVER, "name": "x"}})], "lost", "server-1 is called x at lyon"),
        (
            [replace(PARIS, servers={"s9": {**SERVER, "name": "server-2"}}), LYON],
            "orphan",
            "server server-2 s9 at paris: no request",
        ),
        (
            [replace(PARIS, images={**PARIS.images, "i9": {**IMAGE, "name": "x"}}), LYON],
            "orphan",
            "image x i9 at paris: no request",
        ),
        ([replace(PARIS, images={**PARIS.images, "i1": {**IMAGE, "owner": "p9"}}), LYON], "orphan", "image i1 at paris: its project p9"),
        ([PARIS, replace(LYON, servers={"s1": {**SERVER, "user_id": "u9"}})], "orphan", "server s1 at lyon: its user u9 is gone"),
        ([PARIS, replace(LYON, ports={**LYON.ports, "p2": {**PORT, "device_id": "s9"}})], "orphan", "port p2 at lyon: its server s9"),
        ([PARIS, replace(LYON, allocations=("s1", "s9"))], "orphan", "allocation of s9 at lyon"),
        ([replace(PARIS, networks={**PARIS.networks, "n9": {"name": "n"}}), LYON], "orphan", "network n n9 at paris"),
        ([PARIS, replace(LYON, servers={"s1": {**SERVER, "status": "BUILD"}})], "unhealthy", "server server-1 s1 at lyon is BUILD"),
        ([PARIS, replace(LYON, servers={"s1": {**SERVER, "task": "deleting"}})], "unhealthy", "deleting"),
        ([replace(PARIS, missing=("lyon",)), LYON], "unhealthy", "lyon is missing from the lists of the gateway of paris"),
        ([PARIS, View("lyon", error="no answer")], "unhealthy", "lyon could not be read: no answer"),
    ],
)
def test_each_violation_is_found(views, kind, said):
    if not kind:
        assert found(views) == []  # no request wrote that field
        return
    assert any(each == kind and said in what for each, what in found(views)), found(views)
    assert {each for each, _what in found(views)} <= {kind, "orphan", "lost"}


@pytest.mark.parametrize(
    "view",
    [
        replace(PARIS, missing=("lyon",), listed={**PARIS.listed, "server": ()}),
        replace(PARIS, shown={"/servers/s1": 503}),
        replace(PARIS, shown={"/v2/images/i2": 503}),
    ],
    ids=["a list without a site", "a resource of a site", "a deleted resource"],
)
def test_gateway_that_does_not_reach_a_site_is_ill_and_has_lost_nothing(view):
    assert {kind for kind, _what in found([view, LYON])} == {"unhealthy"}


def test_a_server_that_is_where_nobody_asked_for_it():
    moved = [replace(PARIS, servers={"s1": SERVER}, ports={"port": PORT}, allocations=("s1",)), before("lyon")]
    moved[1] = replace(LYON, servers={}, ports={}, allocations=())
    assert [kind for kind, what in found(moved) if "is at paris, not at lyon" in what] == ["lost"]


def test_unknown_writes_may_exist_or_not_but_alike_at_all_sites():
    log = [*LOG, attempt("user.create", "user-3", "", 9, outcome="unknown", name="eve", password="x", description="")]
    assert found([PARIS, LYON], log) == []
    there = users(u3={**USER, "name": "eve"})
    assert found(both(users=there), log) == []
    assert {kind for kind, _ in found([with_identity(PARIS, users=there), LYON], log)} == {"different"}
    log = [*LOG, attempt("image.delete", "image-1", "i1", 9, outcome="unknown")]
    gone = {**PARIS.listed, "image": ("base",)}
    assert found([replace(PARIS, images=BEFORE[0].images, listed=gone), replace(LYON, listed=gone)], log) == []


def test_of_two_sites_that_wrote_either_may_win_but_not_what_was_overwritten_at_one_site():
    log = [
        *LOG,
        attempt("user.describe", "user-1", "u1", 4, client="lyon/0", description="foreign"),
        attempt("user.describe", "user-1", "u1", 6, client="lyon/1", description="later"),
    ]
    for value, ok in (("new", True), ("later", True), ("foreign", False), ("old", False)):
        assert (found(both(users=users(u1={**USER, "description": value})), log) == []) is ok, value


def test_an_unknown_write_may_come_late_and_a_failed_one_never_does():
    unknown = attempt("user.describe", "user-1", "u1", 1.6, outcome="unknown", description="late")
    failed = attempt("user.describe", "user-1", "u1", 1.7, outcome="failed", description="never")
    assert found(both(users=users(u1={**USER, "description": "late"})), [*LOG, unknown, failed]) == []
    assert found(both(users=users(u1={**USER, "description": "never"})), [*LOG, unknown, failed]) != []


def test_of_two_of_one_name_one_may_have_a_suffix():
    twin = attempt("user.create", "user-4", "0123456789abcdef", 9, client="lyon/0", name="ann", password="x", description="new")
    views = both(users=users(**{"0123456789abcdef": {**USER, "name": "ann-01234567"}}))
    assert found(views, [*LOG, twin]) == []
    assert found(both(users=users(**{"0123456789abcdef": {**USER, "name": "ann-76543210"}})), [*LOG, twin]) != []


def test_with_a_user_goes_what_it_was_granted():
    log = [*LOG, attempt("user.delete", "user-1", "u1", 9)]
    gone = {"users": {"admin": ADMIN}, "assignments": before("paris").assignments}
    views = [replace(view, accepted={}) for view in both(**gone)]
    assert found(views, log) == []


def test_roles_revoked_and_granted_again():
    log = [*LOG, attempt("grant.delete", "user-1/project-1", GRANT, 5)]
    assert [kind for kind, _ in found([PARIS, LYON], log)] == ["lost", "lost"]
    assert found([PARIS, LYON], [*log, attempt("grant.create", "user-1/project-1", GRANT, 6)]) == []


def test_unknown_grants_may_exist_or_not():
    log = [each for each in LOG if each.type != "grant"]
    log.append(attempt("grant.create", "user-1/project-1", GRANT, 4, outcome="unknown"))
    assert found([PARIS, LYON], log) == []
    assert found(both(assignments=before("paris").assignments), log) == []


def test_violations_of_one_resource_at_several_sites_are_counted_once():
    violations = check(LOG, BEFORE, both(users={"admin": ADMIN}, assignments=before("paris").assignments))
    assert len(violations) > 2
    assert count(violations) == {"lost": 2, "duplicated": 0, "orphan": 0, "different": 0, "unhealthy": 0}


def test_sites_are_asked_for_what_is_certain():
    asked: dict[str, Any] = questions(
        [*LOG, attempt("image.create", "image-3", "i3", 9), attempt("image.delete", "image-3", "i3", 9, outcome="unknown")], 0
    )
    assert sorted(asked["paths"]) == [("compute", "/servers/s1"), ("image", "/v2/images/i1"), ("image", "/v2/images/i2")]
    assert asked["passwords"] == {"u1": ["latest"]}
    assert {history.existence for history in histories(LOG).values()} == {"exists", "deleted", "never"}
    assert set(resource_checks.PATHS) == {"image", "server"}


def test_a_run_that_is_kept_can_be_judged_and_done_again(tmp_path):
    plan = schedule(3, 30, ("paris", "lyon"), 1)
    keep(tmp_path / "run", plan, LOG, BEFORE, [PARIS, LYON])
    assert kept_schedule(tmp_path / "run") == plan
    log, begun, ended = kept_evidence(tmp_path / "run")
    assert check(log, begun, ended) == []
    with pytest.raises(AtollError, match="holds no run"):
        kept_schedule(tmp_path)
