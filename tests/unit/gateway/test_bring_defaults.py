"""The group `default` of a project: the rules that a site takes over if it has only the first ones."""

from typing import Any

import pytest

from atoll.gateway.bring.default_groups import DefaultGroups
from atoll.gateway.bring.descriptions import Description
from atoll.gateway.copies.conflicts import Conflicts


class Sites:
    here = "brest"


def defaults(conflicts: Conflicts, *limited: str) -> DefaultGroups:
    return DefaultGroups(Sites(), None, None, conflicts, limited)


def group(site: str, *rules: str, revision: int = 5, project: str = "p") -> Description:
    body: dict[str, Any] = {"id": "g", "project_id": project, "revision_number": revision}
    return Description(site, body | {"security_group_rules": [{"id": rule} for rule in rules]})


def taken(found: Description) -> list[str]:
    return [rule["id"] for rule in found.body["security_group_rules"]]


def test_a_site_opens_no_group_that_others_keep_closed() -> None:
    conflicts = Conflicts()
    groups = [group("metz", "a", "b"), group("pau", "a", "b", "open-to-all", revision=10**9)]
    for changed in (groups, groups[::-1]):
        assert sorted(taken(defaults(conflicts)._agreed(changed, ()))) == ["a", "b"]
    (told,) = conflicts.list()
    assert (told["id"], told["sites"]) == ("g", ["metz", "pau"])


def test_rules_that_all_sites_have_are_adopted_without_a_conflict() -> None:
    conflicts = Conflicts()
    assert taken(defaults(conflicts)._agreed([group("metz", "a", "b"), group("pau", "a", "b")], ())) == ["a", "b"]
    assert conflicts.list() == []


def test_rules_that_the_request_itself_makes_are_left_to_it() -> None:
    conflicts = Conflicts()
    assert taken(defaults(conflicts)._agreed([group("metz", "a", "new"), group("pau", "a")], ["new"])) == ["a"]
    assert conflicts.list() == []


@pytest.mark.parametrize(
    ("found", "compared"),
    [
        (group("metz"), True),
        (group("metz", revision=1), False),
        (group("metz", project="another"), False),
        (group("guest"), False),
    ],
)
def test_which_groups_are_compared(found: Description, compared: bool) -> None:
    assert defaults(Conflicts(), "guest")._is_compared(found, "p") is compared
