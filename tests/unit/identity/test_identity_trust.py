"""Trust between sites: homed domains and projects, and sites with `trust: local-admin`."""

import uuid
from datetime import UTC, datetime

import pytest
from documents import Clock, Site
from hypothesis import given, settings
from hypothesis import strategies as st
from identities import converge, exchange

from atoll.identifiers import identifier
from atoll.identity.rules import rules
from atoll.identity.trust import TrustedRecords, TrustPolicy
from atoll.mesh import tombstones
from atoll.mesh.document import Change

MEMBER = "b" * 32
ADMIN = identifier("role", "admin")
PHYSICS = "d" * 32
LIMITED = TrustPolicy("paris", frozenset({"lyon"}), {PHYSICS: frozenset({"lyon"})})


def homed(*sites: str, here: str = "paris") -> TrustPolicy:
    return TrustPolicy(here, homed={PHYSICS: frozenset(sites)})


@pytest.fixture
def sites(node):
    """Physics is homed at paris, and has a user, a project and a grant."""
    paris = node("paris", policy=homed("paris"))
    lyon = node("lyon", policy=homed("paris", here="lyon"))
    converge([paris, lyon])
    paris.domain("physics", PHYSICS)
    user, project = paris.user("marie", domain_id=PHYSICS), paris.project("lab", domain=PHYSICS)
    paris.sql("INSERT INTO assignment VALUES ('UserProject', ?, ?, ?, 0)", user, project, MEMBER)
    converge([paris, lyon])
    return paris, lyon, user, project


def rows(node, table):
    return node.sql(f'SELECT * FROM "{table}"')


def test_changes_by_the_home_site_reach_all_sites(sites):
    paris, lyon, user, _ = sites
    assert paris.contents() == lyon.contents()
    assert ("marie",) in lyon.sql("SELECT name FROM local_user WHERE user_id = ?", user)


@pytest.mark.parametrize(
    ("kind", "key", "fields"),
    [
        ("user", "USER", {"enabled": 0}),
        ("user", "USER", {"passwords": [["stolen", "now", None, 1, None, 0]]}),
        ("user", "USER", {"domain_id": "default"}),
        ("user", "USER", {"present": False}),
        ("project", PHYSICS, {"present": False}),
        ("project", PHYSICS, {"enabled": 0}),
        ("project", "PROJECT", {"domain_id": "default", "parent_id": "default"}),
        ("assignment", f"UserProject,USER,PROJECT,{MEMBER},0", {"present": False}),
        ("assignment", f"UserProject,{'e' * 32},PROJECT,{MEMBER},0", {"present": True}),
        ("assignment", f"UserDomain,USER,{PHYSICS},{MEMBER},1", {"present": True}),
        ("user", "e" * 32, {"present": True, "domain_id": PHYSICS, "enabled": 1, "name": "eve"}),
        ("group", "e" * 32, {"present": True, "domain_id": PHYSICS, "name": "staff", "description": ""}),
        ("trust", "e" * 32, {"present": True, "trustor_user_id": "USER", "trustee_user_id": "USER", "impersonation": 1}),
        ("application_credential", "e" * 32, {"present": True, "user_id": "USER", "name": "x", "secret_hash": "x"}),
    ],
)
def test_changes_of_a_homed_domain_by_another_member_are_ignored(sites, kind, key, fields):
    """A member that was broken into writes directly into its stream."""
    paris, lyon, user, project = sites
    swap = {"USER": user, "PROJECT": project}
    key = ",".join(swap.get(part, part) for part in key.split(","))
    fields = {name: swap.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    before = paris.contents()
    lyon.site.clock.ms += 60_000
    paris.site.clock.ms += 60_000
    lyon.document.write([Change(f"identity.{kind}", key, fields)])
    converge([paris, lyon])
    assert paris.contents() == lyon.contents() == before
    paris.site.clock.ms += tombstones.REDUCE_AFTER_MS + 1
    paris.document.tidy(0)
    converge([paris, lyon])
    assert paris.contents() == before
    paris.restart()
    assert paris.contents() == before


def test_changes_through_another_sites_keystone_are_undone(sites):
    paris, lyon, user, _ = sites
    before = paris.contents()
    lyon.sql("UPDATE user SET enabled = 0 WHERE id = ?", user)
    lyon.user("eve", domain_id=PHYSICS)
    converge([paris, lyon])
    assert lyon.contents() == paris.contents() == before


def test_other_kinds_are_none_of_its_business(sites):
    paris, lyon, _, _ = sites
    paris.document.write([Change("note", "1", {"present": True})])
    lyon.site.catch_up(paris.site)
    lyon.document.write([Change("note", "1", {"present": False})])
    paris.site.catch_up(lyon.site)
    paris.site.clock.ms += tombstones.REDUCE_AFTER_MS + 1
    paris.document.tidy(0)
    assert set(paris.document.record("note", "1").fields) == {"present"}


def test_other_domains_are_everybodys(sites):
    paris, lyon, _, _ = sites
    user = lyon.user("bob")
    converge([paris, lyon])
    paris.sql("UPDATE user SET enabled = 0 WHERE id = ?", user)
    converge([paris, lyon])
    assert lyon.sql("SELECT enabled FROM user WHERE id = ?", user) == [(0,)]


def test_a_homed_project_and_what_is_below_it(node):
    project = "f" * 32
    policy = {"policy": TrustPolicy("paris", homed={project: frozenset({"paris"})})}
    paris, lyon = node("paris", **policy), node("lyon", **policy)
    converge([paris, lyon])
    paris.project("lab", project)
    below = paris.project("bench")
    paris.sql("UPDATE project SET parent_id = ? WHERE id = ?", project, below)
    user = lyon.user("eve")
    converge([paris, lyon])
    for target in (project, below):
        lyon.document.write([Change("identity.assignment", f"UserProject,{user},{target},{MEMBER},0", {"present": True})])
    converge([paris, lyon])
    assert rows(paris, "assignment") == rows(lyon, "assignment") == []


@pytest.fixture
def limited(node):
    """Lyon has `trust: local-admin`, and physics is homed there."""
    paris, lyon = node("paris", policy=LIMITED), node("lyon", policy=TrustPolicy("lyon", LIMITED.limited, LIMITED.homed))
    converge([paris, lyon])
    return paris, lyon


def test_a_limited_site_administers_what_is_homed_at_it_and_nothing_else(limited):
    paris, lyon = limited
    admin = paris.user("admin")
    project = paris.project("admin")
    exchange(limited)
    lyon.settle()
    lyon.domain("physics", PHYSICS)
    user, lab = lyon.user("marie", domain_id=PHYSICS), lyon.project("lab", domain=PHYSICS)
    lyon.user("local")
    lyon.replica.pull()
    changes = {
        "identity.assignment": [f"UserProject,{user},{lab},{role},0" for role in (MEMBER, ADMIN)]
        + [f"UserProject,{user},{project},{MEMBER},0"],
        "identity.system_assignment": [f"UserSystem,{user},system,{ADMIN},0"],
        "identity.implied_role": [f"{MEMBER},{'a' * 32}"],
    }
    lyon.document.write([Change(kind, key, {"present": True}) for kind, keys in changes.items() for key in keys])
    lyon.document.write([Change("identity.user", admin, {"passwords": [["stolen", "now", None, 1, None, 0]]})])
    lyon.document.write([Change("identity.user", admin, {"domain_id": PHYSICS})])
    exchange(limited)
    paris.settle()
    assert {"marie", "admin"} == paris.names()
    assert paris.sql("SELECT role_id, target_id FROM assignment") == [(MEMBER, lab)]
    assert rows(paris, "system_assignment") == rows(paris, "implied_role") == []
    assert paris.sql("SELECT domain_id FROM user WHERE id = ?", admin) == [("default",)]
    assert paris.sql("SELECT * FROM password") == []


def revoke(node, ahead_h: float) -> None:
    date = datetime.fromtimestamp(node.site.clock.ms / 1000 + ahead_h * 3600, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    node.sql("INSERT INTO revocation_event (user_id, issued_before, revoked_at) VALUES (?, ?, ?)", node.name, date, date)
    node.replica.pull()


@pytest.mark.parametrize("ahead_h", [0, 1])
def test_revocations_of_a_limited_site_are_valid(limited, ahead_h):
    paris, lyon = limited
    revoke(lyon, ahead_h)
    exchange(limited)
    paris.settle()
    assert len(rows(paris, "revocation_event")) == 1


@pytest.mark.parametrize("ahead_h", [25, 24 * 365 * 100])
def test_a_limited_site_revokes_no_tokens_that_are_yet_to_be_issued(limited, ahead_h):
    """Such a revocation would lock out all users of all sites for as long as it lasts."""
    paris, lyon = limited
    revoke(lyon, ahead_h)
    revoke(paris, ahead_h)
    exchange(limited)
    paris.settle()
    lyon.settle()
    assert len(rows(paris, "revocation_event")) == 1, "paris must have its own revocation only"
    assert len(rows(lyon, "revocation_event")) == 2, "revocations of a fully trusted site must count"


NAMES = ["lyon", "nice", "paris"]
KEYS = ["d" * 32, "e" * 32]
PROJECT = st.fixed_dictionaries(
    {}, optional={"domain_id": st.sampled_from([*KEYS, "default"]), "parent_id": st.sampled_from(KEYS), "present": st.booleans()}
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KEYS), PROJECT), max_size=12),
    st.dictionaries(st.sampled_from(KEYS), st.frozensets(st.sampled_from(NAMES), min_size=1)),
    st.frozensets(st.sampled_from(NAMES)),
)
def test_trusted_records_depend_on_the_entries_alone(writes, where, limited):
    """Random claims, in cycles too: both readers get the same records, in whatever order the entries arrived."""
    clock = Clock()
    made = {name: Site(name, rules=rules(), clock=clock) for name in NAMES}
    for name, key, fields in writes:
        made[name].write(key, kind="identity.project", enabled=1, **fields)
    for giver in NAMES:
        made["paris"].catch_up(made[giver])
    for giver in reversed(NAMES):
        made["nice"].catch_up(made[giver])
    made["nice"].catch_up(made["paris"])
    policy = TrustPolicy("rome", limited, where)
    views = [TrustedRecords(made[name].document, policy) for name in ("paris", "nice")]
    for key in KEYS:
        one, other = (view.record("identity.project", key) for view in views)
        assert one == other
        if one and key in where:
            assert set(one.authors.values()) <= where[key]
        if one and not where:
            assert not set(one.authors.values()) & limited
    for site in made.values():
        site.store.close()


def test_trust_policy_is_read_from_the_settings():
    policy = TrustPolicy.of("paris", {"lyon": "local-admin", "nice": "full"}, {f"domain/{PHYSICS}": ["paris"]})
    assert policy == TrustPolicy("paris", frozenset({"lyon"}), {PHYSICS: frozenset({"paris"})})
    assert TrustPolicy.of("paris", {}, {}).is_unrestricted
    assert uuid.UUID(ADMIN)
