"""The hypervisors of a cloud's sites: checks and defaults."""

import pytest
from refusals import refusal

from atoll.cloud import Cloud, dump_cloud, parse_cloud
from atoll.cloud.hypervisor_defaults import with_default_hypervisors

MESH = {"preset": "mesh"}


def cloud(*sites, topology=MESH) -> Cloud:
    data = {"sites": [{"name": site} if isinstance(site, str) else site for site in sites]}
    return Cloud.model_validate(data | ({"topology": topology} if topology else {}))


def choices(cloud_, able=True, fake=()):
    return {site.name: (site.compute, site.network) for site in with_default_hypervisors(cloud_, able=able, fake=fake).sites}


REAL, FAKE = ("libvirt", "ovn"), ("fake", "fake")


def test_where_it_can_be_had_guests_are_real():
    assert choices(cloud("a", "b")) == {"a": REAL, "b": REAL}
    assert choices(cloud("a", "b"), able=False) == {"a": FAKE, "b": FAKE}


def test_explicit_choices_are_kept():
    mixed = cloud({"name": "a", "compute": "fake"}, {"name": "b", "compute": "libvirt"}, {"name": "c", "network": "fake"}, "d")
    assert choices(mixed) == {"a": FAKE, "b": REAL, "c": FAKE, "d": REAL}
    assert choices(mixed, able=False)["b"] == REAL


def test_network_of_agents_is_had_where_it_is_asked_for():
    mixed = cloud({"name": "a", "compute": "libvirt", "network": "ovs"}, "b")
    assert choices(mixed) == {"a": ("libvirt", "ovs"), "b": REAL}
    assert [site.data_plane for site in mixed.sites] == ["ovs", "fake"]


def test_site_that_was_fake_stays_fake():
    assert choices(cloud("a", "b"), fake=["a"]) == {"a": FAKE, "b": REAL}


def test_sites_that_share_the_machines_network_have_none_but_a_single_one():
    assert choices(cloud("a", topology=None)) == {"a": REAL}
    assert choices(cloud("a", "b", topology=None)) == {"a": FAKE, "b": FAKE}


def test_compute_sites_and_their_control_sites_have_none():
    assert choices(cloud("a", {"name": "b", "kind": "compute", "control": "a"}, "c")) == {"a": FAKE, "b": ("fake", None), "c": REAL}


def test_site_without_nova_has_none():
    assert choices(cloud({"name": "a", "services": {"nova": False}}, "b"))["a"] == FAKE


def test_choice_is_written_down_and_read_again():
    chosen = with_default_hypervisors(cloud("a", "b"), able=True, fake=["b"])
    assert parse_cloud(dump_cloud(chosen), "x").sites == chosen.sites


@pytest.mark.parametrize(
    ("sites", "topology", "text"),
    [
        ([{"name": "a", "compute": "libvirt", "network": "fake"}], MESH, "does not work with `network: fake`: expected `network: ovn`"),
        ([{"name": "a", "compute": "fake", "network": "ovn"}], MESH, "expected `network: fake`"),
        ([{"name": "a", "network": "ovn"}], MESH, "expected `compute: libvirt` beside `network: ovn`"),
        ([{"name": "a", "network": "ovs"}], MESH, "expected `compute: libvirt` beside `network: ovs`"),
        ([{"name": "a", "compute": "fake", "network": "ovs"}], MESH, "expected `network: fake`"),
        ([{"name": "a", "compute": "libvirt"}, {"name": "b", "compute": "libvirt"}], None, "expected a `topology`, or `compute: fake`"),
        (
            [{"name": "a", "compute": "libvirt"}, {"name": "b", "kind": "compute", "control": "a"}],
            MESH,
            "expected `compute: fake` for both",
        ),
        ([{"name": "a", "compute": "libvirt", "services": {"nova": False}}], MESH, "a runs no Nova: expected no `compute`"),
    ],
)
def test_contradictory_fields_are_refused_in_one_line(sites, topology, text):
    import yaml

    data = {"sites": sites} | ({"topology": topology} if topology else {})
    assert text in refusal("cloud.invalid", parse_cloud, yaml.safe_dump(data), "c.yaml")
