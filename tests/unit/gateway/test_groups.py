"""Sites that share a database, in the eyes of a gateway."""

import pytest

from atoll.gateway.groups import Groups

OWNERS = {"paris": "paris", "lyon": "paris", "rome": "rome", "nice": "rome"}


@pytest.fixture
def paris():
    return Groups("paris", OWNERS)


def test_this_site_answers_for_those_that_share_its_database(paris):
    assert paris.other_holders(["lyon", "metz"], "compute", ["lyon", "metz"]) == ["metz"]
    assert paris.holders(["lyon", "metz"], "network", ["lyon", "metz"]) == ["paris", "metz"]


def test_of_another_group_the_nearest_site_that_can_be_reached_answers(paris):
    everyone = ["lyon", "metz", "nice", "rome"]
    assert paris.other_holders(everyone, "compute", ["rome", "nice", "metz"]) == ["metz", "rome"]
    assert paris.other_holders(everyone, "compute", ["nice"]) == ["metz", "nice"]
    assert paris.other_holders(everyone, "compute", []) == ["metz", "nice"], "one of an unreachable group must be named as missing"


def test_a_scope_is_answered_by_its_own_sites(paris):
    assert paris.holders(["rome"], "compute", ["nice", "rome"]) == ["rome"]
    assert paris.holders(["metz", "rome", "nice"], "compute", ["nice", "rome", "metz"]) == ["metz", "nice"]


@pytest.mark.parametrize("service", ["image", "identity", ""])
def test_each_site_answers_for_itself_with_what_is_not_shared(paris, service):
    everyone = ["lyon", "metz", "nice", "rome"]
    assert paris.other_holders(everyone, service, everyone) == everyone
    assert paris.holders(["lyon", "rome"], service, everyone) == ["lyon", "rome"]


def test_the_owner_publishes_the_identity_of_its_group(paris):
    assert [paris.publisher(site) for site in ("lyon", "nice", "metz")] == ["paris", "rome", "metz"]


def test_a_cloud_without_shared_databases_is_as_it_was():
    alone = Groups("paris", {})
    assert alone.other_holders(["lyon", "nice"], "compute", ["nice"]) == ["lyon", "nice"]
    assert not alone.is_shared("lyon", "compute")
