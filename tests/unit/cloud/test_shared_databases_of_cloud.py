"""Sites that share the databases of another site: `database: {of: SITE}`."""

import pytest
from refusals import refusal

from atoll.cloud import dump_cloud, parse_cloud
from atoll.cloud.hypervisor_defaults import with_default_hypervisors

PARIS = "{name: paris, database: {start: redis}}"
LYON = "{name: lyon, database: {of: paris}}"


def cloud(*sites: str, more: str = ""):
    return parse_cloud("sites:\n" + "".join(f"- {site}\n" for site in sites) + more, "c.yaml")


def complaint(*sites: str, more: str = "") -> str:
    found = refusal("cloud.invalid", lambda: cloud(*sites, more=more))
    assert "\n" not in found
    return found


def test_a_site_names_the_site_whose_databases_it_shares():
    made = cloud(LYON, "{name: nice}", PARIS)
    assert [site.name for site in made.sharing("lyon")] == ["paris", "lyon"], "the owner must come first"
    assert made.sharing("paris") == made.sharing("lyon")
    assert made.sharing("nice") == ()
    assert made.sites[0].database.engine == "redis"
    assert parse_cloud(dump_cloud(made), "again") == made


def test_an_existing_server_can_be_shared():
    assert len(cloud("{name: paris, database: 'redis://atoll@10.0.0.1'}", LYON).sharing("paris")) == 2


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ((LYON,), "no other full site is called paris: expected a full site with `database: {start: redis}`"),
        (("{name: lyon, database: {of: lyon}}",), "no other full site is called lyon"),
        ((PARIS, "{name: lyon, database: {of: rome}}"), "no other full site is called rome: expected one of paris"),
        ((PARIS, LYON, "{name: nice, database: {of: lyon}}"), "lyon shares the databases of paris: expected `{of: paris}`"),
        (("{name: paris}", LYON), "paris has its databases in sqlite, which sites can't share"),
        (("{name: paris, database: {start: mariadb}}", LYON), "paris has its databases in mariadb, which sites can't share"),
        ((PARIS, "{name: lyon, database: {of: paris, url: 'redis://a?isolation=snapshot'}}"), "its isolation: expected `of` alone"),
        ((PARIS, "{name: lyon, database: {of: paris, start: redis}}"), "expected `of` alone"),
        ((PARIS, "{name: lyon, database: {of: paris}, durability: relaxed}"), "has `full`: expected the same"),
        ((PARIS, "{name: lyon, database: {of: paris}, services: {nova: false}}"), "runs other services"),
        ((PARIS, "{name: lyon, database: {of: paris}, bus: rabbit, rabbit: {url: 'rabbit://h/'}}"), "are on one bus: expected `zenoh`"),
        ((PARIS, "{name: lyon, database: {of: paris}, compute: libvirt}"), "OVN can't span sites yet: expected `compute: fake`"),
        ((PARIS, "{name: lyon, database: {of: paris}, network_services: [firewall]}"), "network services do not work with"),
        ((PARIS, LYON, "{name: edge, kind: compute, control: paris}"), "paris has compute sites, which do not work with a shared database"),
        ((PARIS, "{name: edge, kind: compute, control: paris, database: {of: paris}}"), "a compute site has its control site's"),
        ((PARIS, "{name: lyon, database: {of: 'PARIS'}}"), "expected the name of another full site"),
    ],
)  # fmt: skip
def test_what_can_not_be_shared_is_refused_in_one_line(sites, expected):
    assert expected in complaint(*sites)


def test_one_keystone_has_one_trust_and_one_home():
    assert "expected the same `trust` in both" in complaint(PARIS, LYON, more="trust: {lyon: local-admin}\n")
    cloud(PARIS, LYON, more="trust: {lyon: local-admin, paris: local-admin}\n")
    assert "expected all or none of lyon, paris" in complaint(PARIS, LYON, more="homed: [{domain: d1, sites: [lyon]}]\n")
    cloud(PARIS, LYON, more="homed: [{domain: d1, sites: [lyon, paris]}]\n")


def test_such_sites_have_the_fake_driver_by_default():
    made = cloud(PARIS, LYON, "{name: nice}", more="topology: {preset: mesh}\n")
    found = with_default_hypervisors(made, able=True, fake=())
    assert [site.compute for site in found.sites] == ["fake", "fake", "libvirt"]
