"""Clouds with added sites, and without removed ones."""

from functools import partial

import pytest
from refusals import refusal

from atoll.cloud import parse_cloud
from atoll.cloud.changes import NewSite, with_site, without_sites


def cloud(topology="", names="paris lyon nice"):
    sites = ", ".join(f"{{name: {name}}}" for name in names.split())
    return parse_cloud(f"sites: [{sites}]\n{f'topology: {topology}' if topology else ''}", "c.yaml")


refused = partial(refusal, "cloud.invalid")


def links(found):
    return {frozenset(link) for link in found.network.links}


def pairs(*words):
    return {frozenset(word.split(":")) for word in words}


def test_others_keep_their_ports_and_addresses():
    assert [site.port for site in with_site(cloud(), NewSite("rome")).sites] == [15000, 15010, 15020, 15030]
    grown = with_site(without_sites(cloud("{preset: mesh}"), ["lyon"]), NewSite("rome"))
    assert [site.host for site in grown.sites] == ["10.77.0.1", "10.77.2.1", "10.77.1.1"]


@pytest.mark.parametrize(
    ("topology", "added"),
    [
        ("{preset: mesh}", ["rome:paris", "rome:lyon", "rome:nice"]),
        ("{defaults: {delay: 1ms}}", ["rome:paris", "rome:lyon", "rome:nice"]),
        ("{preset: star}", ["paris:rome"]),
        ("{preset: star, center: nice}", ["nice:rome"]),
    ],
)
def test_preset_links_a_new_site(topology, added):
    before = cloud(topology)
    assert links(with_site(before, NewSite("rome"))) - links(before) == pairs(*added)


def test_link_of_a_new_site_changes_that_of_the_preset():
    grown = with_site(cloud("{preset: mesh, defaults: {delay: 1ms}}"), NewSite("rome", links={"paris": {"delay": "9ms", "loss": "1%"}}))
    assert (grown.network.wires["rome", "paris"].delay_ms, grown.network.wires["paris", "rome"].loss) == (9, 0.01)
    assert grown.network.wires["rome", "lyon"].delay_ms == 1


def test_listed_links_alone_need_one_of_the_new_site():
    chain = cloud("{links: [{between: [paris, lyon]}, {between: [lyon, nice]}]}")
    assert refused(with_site, chain, NewSite("rome")).startswith("rome would have no link")
    assert links(with_site(chain, NewSite("rome", links={"lyon": {}}))) == pairs("paris:lyon", "lyon:nice", "lyon:rome")
    assert "no site or router is called oslo" in refused(with_site, chain, NewSite("rome", links={"oslo": {}}))


def test_link_said_again_replaces_the_first():
    chain = cloud("{links: [{between: [paris, lyon], loss: 5%}, {between: [lyon, nice]}]}")
    again = with_site(chain, NewSite("paris", links={"lyon": {"delay": "2ms"}}))
    assert (again.network.wires["paris", "lyon"].delay_ms, again.network.wires["lyon", "paris"].loss) == (2, 0)
    assert len(again.network.links) == 2


def test_site_that_is_there_stays_what_it_is():
    edge = with_site(cloud(), NewSite("edge", "compute", "lyon"))
    assert with_site(edge, NewSite("edge", "compute", "lyon")) == edge
    assert (
        refused(with_site, edge, NewSite("edge", "compute", "nice")) == "edge exists, and is a compute site of lyon: expected another name"
    )


def test_distances_need_a_location():
    place = "{distance: true, locations: {paris: [48.9, 2.4], lyon: [45.8, 4.8], nice: [43.7, 7.3]}}"
    assert "rome has no location" in refused(with_site, cloud(place), NewSite("rome"))
    grown = with_site(cloud(place), NewSite("rome", location=(41.9, 12.5)))
    assert 2 < grown.network.wires["nice", "rome"].delay_ms < 5
    assert list(without_sites(grown, ["rome"]).topology.locations) == ["paris", "lyon", "nice"]


def test_everything_said_about_a_site_goes_with_it():
    said = """
  preset: mesh
  links: [{between: [paris, nice], delay: 40ms}, {between: [paris, lyon], delay: 4ms}]
  groups: {south: [nice, lyon], all-of-n: [n*]}
  constraints: [{between: [nice, paris], loss: 1%}, {between: [south, paris], jitter: 1ms}, {between: [all-of-n, paris], loss: 2%}]
  exempt: [nice]
"""
    left = without_sites(cloud(said), ["nice"])
    assert left.topology.groups == {"south": ("lyon",), "all-of-n": ()}
    assert [constraint.between for constraint in left.topology.constraints] == [("south", "paris"), ("all-of-n", "paris")]
    assert left.topology.exempt == ()
    wire = left.network.wires["paris", "lyon"]
    assert (wire.delay_ms, wire.jitter_ms, wire.loss) == (4, 1, 0)


def test_a_removal_that_disconnects_sites_is_refused():
    chain = cloud("{links: [{between: [paris, lyon]}, {between: [lyon, nice]}]}")
    assert refused(without_sites, chain, ["lyon"]).startswith("without lyon: no path leads from paris to nice")
    star = cloud("{links: [{between: [paris, lyon]}, {between: [paris, nice]}, {between: [lyon, nice]}]}")
    assert links(without_sites(star, ["paris"])) == pairs("lyon:nice")
    assert "topology.center: no site is called nice" in refused(without_sites, cloud("{preset: star, center: nice}"), ["nice"])


def test_routers_carry_on_without_a_site():
    ring = cloud("{routers: [{name: hub}], links: [{between: [paris, hub]}, {between: [lyon, hub]}, {between: [nice, hub]}]}")
    assert links(without_sites(ring, ["nice", "lyon"])) == pairs("paris:hub")
