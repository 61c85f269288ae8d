"""The field `lists` of the cloud's YAML."""

import pytest

from atoll.cloud.changes import without_sites
from atoll.cloud.document import dump_cloud, parse_cloud
from atoll.errors import AtollError

SITES = "sites: [{name: paris}, {name: lyon}]\n"


def test_the_field_is_read_and_written_back():
    cloud = parse_cloud(f"{SITES}lists: strict\n", "cloud.yaml")
    assert cloud.lists == "strict"
    assert parse_cloud(dump_cloud(cloud), "again.yaml") == cloud
    assert without_sites(cloud, ["lyon"]).lists == "strict"


def test_by_default_lists_are_short_while_a_site_is_away():
    cloud = parse_cloud(SITES, "cloud.yaml")
    assert cloud.lists == "partial"
    assert "lists" not in dump_cloud(cloud)


def test_another_word_is_refused_with_its_line():
    with pytest.raises(AtollError, match=r"cloud.yaml:2: .*`partial` or `strict`"):
        parse_cloud(f"{SITES}lists: whole\n", "cloud.yaml")
