"""The network services in a cloud's YAML."""

import pytest
from refusals import refusal

from atoll.cloud import dump_cloud, parse_cloud
from atoll.cloud.network_services import NETWORKS, complaints_of_network_services

SITE = "sites:\n- name: a\n"


def complaint(site: str) -> str:
    return refusal("cloud.invalid", parse_cloud, SITE + site, "c.yaml")


def test_list_is_kept():
    cloud = parse_cloud(f"{SITE}  network_services: [firewall, bgp]", "c.yaml")
    assert cloud.sites[0].network_services == ("firewall", "bgp")
    assert parse_cloud(dump_cloud(cloud), "again").sites == cloud.sites
    assert "network_services" not in dump_cloud(parse_cloud(SITE, "c.yaml"))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("[firewal]", f"no network service is called firewal (did you mean firewall?): expected one of {', '.join(NETWORKS)}"),
        ("[bgp, bgp]", "bgp is in the list twice: expected it once"),
        ("firewall", "expected a list of network services, such as [firewall, bgp], got the text 'firewall'"),
        ("{bgp: true}", "expected a list of network services, such as [firewall, bgp], got a mapping"),
        ("[7]", "expected a list of network services, such as [firewall, bgp], got 7"),
    ],
)
def test_a_value_that_is_not_a_list_of_names_is_refused(said, meant):
    message = complaint(f"  network_services: {said}")
    assert message.startswith("c.yaml:3: sites[0].network_services")
    assert message.endswith(f": {meant}")


def test_service_must_go_with_the_data_plane():
    expected = "sfc does not work with `network: ovn`: expected `network: ovs`, or no `sfc`"
    message = complaint("  compute: libvirt\n  network: ovn\n  network_services: [qos, sfc]")
    assert message == f"c.yaml:5: sites[0].network_services: {expected}"
    assert "expected `network: ovn` or `network: ovs`, or no `firewall`" in complaint("  network: fake\n  network_services: [firewall]")


def test_data_plane_that_is_not_said_yet_is_not_judged_yet():
    cloud = parse_cloud(f"{SITE}  network_services: [firewall]", "c.yaml")
    assert list(complaints_of_network_services(cloud.sites, emulated=False)) == []
    fake = cloud.sites[0].model_copy(update={"network": "fake"})
    [(index, text)] = complaints_of_network_services([fake], emulated=False)
    assert index == 0
    assert text.startswith("firewall does not work with `network: fake`")


def test_services_that_every_site_has_may_be_named():
    parse_cloud(f"{SITE}  compute: fake\n  network_services: [qos, segments, port-forwarding, metering]", "c.yaml")


def test_site_without_neutron_has_none():
    assert complaint("  services: {nova: false, neutron: false}\n  network_services: [qos]").endswith(
        "a runs no Neutron: expected no `network_services`"
    )


def test_compute_site_has_its_control_sites():
    message = complaint("- {name: b, kind: compute, control: a, network_services: [qos]}")
    assert message.endswith("a compute site has its control site's: expected no `network_services`")


def test_service_with_a_port_of_its_own_needs_a_site_with_an_address_of_its_own():
    site = "  compute: libvirt\n  network: ovn\n  network_services: [load-balancer]\n"
    assert "load-balancer needs a port that a site has only in a network of its own" in complaint(site)
    cloud = parse_cloud(f"{SITE}{site}- name: b\ntopology: {{preset: mesh}}", "c.yaml")
    assert [each.ports.get("load-balancer") for each in cloud.sites] == [9876, None]
