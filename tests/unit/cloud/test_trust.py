"""The fields `trust` and `homed` of the cloud's YAML."""

import pytest

from atoll.cloud.changes import without_sites
from atoll.cloud.document import dump_cloud, parse_cloud
from atoll.errors import AtollError

GOOD = """
sites:
  - name: paris
  - name: lyon
trust: {lyon: local-admin, from-elsewhere: full}
homed:
  - domain: 2f0c5a
    sites: [paris]
  - {project: 77aa, sites: [paris, lyon]}
"""


def test_the_field_is_read_and_written_back():
    cloud = parse_cloud(GOOD, "cloud.yaml")
    assert cloud.trust == {"lyon": "local-admin", "from-elsewhere": "full"}
    assert {each.key: each.sites for each in cloud.homed} == {"domain/2f0c5a": ("paris",), "project/77aa": ("paris", "lyon")}
    assert parse_cloud(dump_cloud(cloud), "again.yaml") == cloud
    assert without_sites(cloud, ["lyon"]).homed == cloud.homed


def test_by_default_every_site_is_trusted_and_nothing_is_homed():
    cloud = parse_cloud("sites: [{name: paris}]", "cloud.yaml")
    assert (cloud.trust, cloud.homed) == ({}, ())
    assert "trust" not in dump_cloud(cloud)
    assert "homed" not in dump_cloud(cloud)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("trust:\n  lyon: partly\n", 3, "`full` or `local-admin`"),
        ("trust: [lyon]\n", 2, "`full` or `local-admin`"),
        ("trust:\n  Lyon: full\n", 3, "expected"),
        ("homed:\n  - sites: [paris]\n", 3, "either `domain` or `project`"),
        ("homed:\n  - {domain: a, project: b, sites: [paris]}\n", 3, "either `domain` or `project`"),
        ("homed:\n  - domain: a\n", 3, "`sites` is missing"),
        ("homed:\n  - domain: a\n    sites: []\n", 4, "at least one site"),
        ("homed:\n  - domain: no/id\n    sites: [paris]\n", 3, "the id of a domain"),
        ("homed:\n  - domain: a\n    sites: [paris]\n  - domain: a\n    sites: [lyon]\n", 5, "a second entry for domain a"),
        ("homed:\n  - domain: a\n    sites: [paris]\n    site: [paris]\n", 5, "did you mean `sites`"),
        ("homed: paris\n", 2, "a list such as"),
    ],
)
def test_errors_name_their_line(text, line, words):
    with pytest.raises(AtollError) as error:
        parse_cloud(f"sites: [{{name: paris}}]\n{text}", "cloud.yaml")
    assert error.value.message.startswith(f"cloud.yaml:{line}: "), error.value.message
    assert words in error.value.message
    assert "\n" not in error.value.message
