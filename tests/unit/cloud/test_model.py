import pytest
from pydantic import ValidationError

from atoll.cloud import PORT_OFFSETS, Cloud, ServicePlan


def cloud(*sites: dict[str, object]) -> Cloud:
    return Cloud.model_validate({"sites": list(sites)})


def test_default_is_one_full_site():
    default = Cloud.default()
    assert default.site_names == ("local",)
    assert default.sites[0].services.names == {"keystone", "placement", "glance", "neutron", "nova"}


def test_ports_are_base_plus_last_digit_of_the_standard_port():
    standard = {"identity": 5000, "image": 9292, "compute": 8774, "metadata": 8775, "network": 9696, "placement": 8778}
    assert {name: port % 10 for name, port in standard.items()} == PORT_OFFSETS
    assert Cloud.default().sites[0].ports["compute"] == 15004


def test_sites_without_port_get_one_each_in_steps_of_ten():
    assert [site.port for site in cloud({"name": "a"}, {"name": "b"}, {"name": "c"}).sites] == [15000, 15010, 15020]


def test_default_port_steps_over_what_others_ask_for():
    ports = [site.port for site in cloud({"name": "a"}, {"name": "b", "port": 15005}, {"name": "c"}).sites]
    assert ports == [15020, 15005, 15030]


def test_known_site_keeps_its_port_when_another_is_put_before_it():
    data = {"sites": [{"name": "new"}, {"name": "old"}]}
    ports = {site.name: site.port for site in Cloud.model_validate(data, context={"ports": {"old": 15000}}).sites}
    assert ports == {"new": 15010, "old": 15000}


def test_same_ports_on_two_addresses_are_fine():
    assert len(cloud({"name": "a", "port": 15000}, {"name": "b", "port": 15000, "host": "127.0.0.2"}).sites) == 2


@pytest.mark.parametrize("other", [15000, 15002, 14998, 15004])
def test_overlapping_ports_are_refused(other):
    with pytest.raises(ValidationError, match="is a port of a too"):
        cloud({"name": "a", "port": 15000}, {"name": "b", "port": other})


@pytest.mark.parametrize("name", ["", "Paris", "1a", "a_b", "a-", "a" * 33, "template", "default", "a/b", "paris\n", 7, None])
def test_bad_names_are_refused(name):
    with pytest.raises(ValidationError):
        cloud({"name": name})


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "127.0.0.1/8", "1.2.3", ""])
def test_bad_hosts_are_refused(host):
    with pytest.raises(ValidationError):
        cloud({"name": "a", "host": host})


def test_service_needs_its_services():
    assert ServicePlan(nova=False, glance=False).names == {"keystone", "placement", "neutron"}
    with pytest.raises(ValidationError, match="nova needs placement and glance"):
        ServicePlan(glance=False, placement=False)
