"""The trust in a member's statements in a gateway, by the cloud's YAML."""

from __future__ import annotations

import pytest

from atoll.gateway.identity.authority import Authority
from atoll.identity.trust import TrustPolicy
from atoll.mesh.entry import Fields, Stamped
from atoll.mesh.record import Record

ENTRIES = {
    ("identity.project", "physics"): {"domain_id": "<<keystone.domain.root>>"},
    ("identity.project", "lab"): {"domain_id": "physics", "parent_id": "physics"},
    ("identity.user", "marie"): {"domain_id": "physics"},
    ("identity.project", "other"): {"domain_id": "default", "parent_id": "default"},
    ("identity.user", "admin"): {"domain_id": "default"},
}


class Document:
    """A document with the entries that nice has written."""

    def record(self, _kind: str, _key: str) -> Record | None:
        return None

    def entries(self, kind: str, key: str) -> dict[str, Fields]:
        found = ENTRIES.get((kind, key))
        return {"nice": {name: Stamped(1, value) for name, value in found.items()}} if found else {}


HOMED = {"physics": frozenset({"nice"})}


@pytest.mark.parametrize(
    ("site", "project", "user", "speaks"),
    [
        ("lyon", "other", "admin", True),  # trusted as far as any
        ("nice", "lab", "marie", True),
        ("nice", "lab", "", True),
        ("nice", "other", "", False),
        ("nice", "lab", "admin", False),  # another's user, whatever project is said
        ("nice", "other", "marie", False),
        ("nice", "", "marie", False),
        ("nice", "unknown", "", False),
    ],
)
def test_site_with_limited_trust_speaks_for_what_is_homed_at_it(site: str, project: str, user: str, *, speaks: bool):
    assert Authority(Document(), TrustPolicy("paris", frozenset({"nice"}), HOMED)).speaks_for(site, project, user) is speaks


def test_site_speaks_for_itself_at_home():
    assert Authority(Document(), TrustPolicy("nice", frozenset({"nice"}), HOMED)).speaks_for("nice", "other", "admin")


@pytest.mark.parametrize("project", ["lab", "other"])
def test_without_limits_each_site_speaks_for_all(project: str):
    assert Authority(Document(), TrustPolicy("paris", homed={"physics": frozenset({"paris"})})).speaks_for("nice", project, "marie")
