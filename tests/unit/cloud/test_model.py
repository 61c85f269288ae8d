import pytest
from pydantic import ValidationError

from atoll.cloud import PORT_OFFSETS, Cloud, ServicePlan, Site


def cloud(*sites: dict[str, object]) -> Cloud:
    return Cloud.model_validate({"sites": list(sites)})


def test_default_is_one_full_site():
    default = Cloud.default()
    assert default.site_names == ("local",)
    assert default.sites[0].services.names == {"keystone", "placement", "glance", "neutron", "nova"}


def test_ports_are_base_plus_last_digit_of_the_standard_port():
    standard = {"identity": 5000, "image": 9292, "compute": 8774, "metadata": 8775, "network": 9696, "placement": 8778}
    # Atoll's own ports have the offsets that no OpenStack service has.
    assert {name: port % 10 for name, port in standard.items()} | {"gateway": 1, "peer": 3, "mesh": 7, "bus": 9} == PORT_OFFSETS
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)
    assert Cloud.default().sites[0].ports["compute"] == 15004


def test_sites_without_port_get_one_each_in_steps_of_ten():
    assert [site.port for site in cloud({"name": "a"}, {"name": "b"}, {"name": "c"}).sites] == [15000, 15010, 15020]


def test_default_port_steps_over_what_others_ask_for():
    ports = [site.port for site in cloud({"name": "a"}, {"name": "b", "port": 15005}, {"name": "c"}).sites]
    assert ports == [15020, 15005, 15030]


def test_known_site_keeps_its_port_when_another_is_put_before_it():
    data = {"sites": [{"name": "new"}, {"name": "old"}]}
    known = {"old": Site(name="old", port=15000)}
    ports = {site.name: site.port for site in Cloud.model_validate(data, context={"known": known}).sites}
    assert ports == {"new": 15010, "old": 15000}


def test_same_ports_on_two_addresses_are_refused():
    """The internal APIs of all sites listen on the machine's loopback address."""
    with pytest.raises(ValidationError, match="is a port of a too"):
        cloud({"name": "a", "port": 15000}, {"name": "b", "port": 15000, "host": "127.0.0.2"})


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


def compute(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "kind": "compute", "control": "a", **more}


def test_compute_site_belongs_to_its_control_site_and_listens_nowhere():
    made = cloud(
        compute("e"), {"name": "a"}, compute("f", host="127.0.0.2", debug=True, options={"nova": {"DEFAULT": {"x": 1}}}), {"name": "b"}
    )
    assert [site.name for site in made.full_sites] == ["a", "b"]
    assert [site.name for site in made.computes_of("a")] == ["e", "f"]
    assert made.computes_of("b") == ()
    assert [made.control_of(site).name for site in made.sites] == ["a", "a", "a", "b"]
    assert (made.sites[0].ports, made.sites[1].ports["bus"]) == ({}, 15019)


def test_full_site_has_a_port_even_where_pydantic_was_given_none():
    assert cloud({"name": "a"}, compute("e")).sites[0].port == 15000


RABBIT = {"url": "rabbit://nova@10.0.0.1:5672/"}


@pytest.mark.parametrize(
    "url",
    ["rabbit://h", "rabbit://h:5672/", "rabbit://u@h/v", "rabbit://u@h:1,u@[::1]:2/", "rabbit://u%40x@h.example-1.org:5672/a%2Fb"],
)
def test_url_of_rabbitmq(url):
    assert cloud({"name": "a", "bus": "rabbit", "rabbit": {"url": url}}).sites[0].rabbit.url == url


@pytest.mark.parametrize(
    "url",
    ["", "h:5672", "amqp://h/", "rabbit://", "rabbit:///v", "rabbit://u:secret@h/", "rabbit://u@h,u:secret@i/", "rabbit://u@h:port/",
     "rabbit://u@h/v?ssl=1", "rabbit://u @h/", "rabbit://u@h/\nx"],
)  # fmt: skip
def test_other_urls_are_refused_and_not_shown(url):
    with pytest.raises(ValidationError) as caught:
        cloud({"name": "a", "bus": "rabbit", "rabbit": {"url": url}})
    assert "secret" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("site", "text"),
    [
        ({"bus": "rabbit"}, "`bus: rabbit` needs a `rabbit` beside it"),
        ({"rabbit": RABBIT}, "`rabbit` has no effect without `bus: rabbit`: expected both or neither"),
        ({"bus": "rabbit", "rabbit": {"url": "rabbit://h/", "password_file": "/x"}}, "expected a `url` with the user"),
        ({"control": "b"}, "a is a full site and its own control site"),
    ],
)
def test_full_sites_that_contradict_themselves(site, text):
    with pytest.raises(ValidationError, match=text):
        cloud({"name": "a", **site}, {"name": "b"})


@pytest.mark.parametrize(
    ("site", "text"),
    [
        ({"control": None}, "e is a compute site: expected `control` beside it, the name of a full site"),
        ({"control": "b"}, "no full site is called b: expected one of a, small"),
        ({"control": "e"}, "no full site is called e: expected one of a, small"),
        ({"control": "f"}, "no full site is called f: expected one of a, small"),
        ({"control": "small"}, "small runs no Nova: expected a full site with all services"),
        ({"port": 15000}, "nothing listens at a compute site: expected no `port`"),
        ({"services": {}}, "a compute site runs nova-compute alone: expected no `services`"),
        ({"network": "fake"}, "a compute site has its control site's: expected no `network`"),
        ({"bus": "zenoh"}, "a compute site has its control site's: expected no `bus`"),
        ({"rabbit": RABBIT}, "a compute site has its control site's: expected no `rabbit`"),
        ({"durability": "full"}, "a compute site has its control site's: expected no `durability`"),
        ({"traffic": "stock"}, "a compute site has its control site's: expected no `traffic`"),
        ({"options": {"neutron": {}}}, "a compute site runs nova-compute alone: expected options of nova"),
    ],
)
def test_bad_compute_sites_are_refused(site, text):
    with pytest.raises(ValidationError, match=text):
        cloud({"name": "a"}, {"name": "small", "services": {"nova": False}}, compute("f"), compute("e", **site))


def test_compute_site_alone_is_refused():
    with pytest.raises(ValidationError, match="no full site is called a: expected a full site in this cloud"):
        cloud(compute("e"))


def test_service_needs_its_services():
    assert ServicePlan(nova=False, glance=False).names == {"keystone", "placement", "neutron"}
    with pytest.raises(ValidationError, match="nova needs placement and glance"):
        ServicePlan(glance=False, placement=False)


def on_a_wan(*sites, known=None, **topology):
    data = {"sites": list(sites), "topology": {"preset": "mesh", **topology}}
    return Cloud.model_validate(data, context={"known": known or {}})


def test_in_a_topology_every_site_has_an_address_and_the_standard_ports():
    found = on_a_wan({"name": "a"}, {"name": "b"}, {"name": "edge", "kind": "compute", "control": "a"})
    assert [site.host for site in found.sites] == ["10.77.0.1", "10.77.1.1", "10.77.2.1"]
    assert (found.sites[1].ports["identity"], found.sites[1].ports["bus"]) == (5000, 7447)
    assert found.sites[2].ports == {}
    assert {node.name: node.address for node in found.network.nodes} == {"a": "10.77.0.1", "b": "10.77.1.1", "edge": "10.77.2.1"}


def test_in_a_topology_a_known_site_keeps_its_address():
    known = {"old": Site(name="old", host="10.77.0.1"), "from-before": Site(name="from-before", port=15000)}
    found = on_a_wan({"name": "new"}, {"name": "old"}, {"name": "from-before"}, known=known)
    assert [site.host for site in found.sites] == ["10.77.1.1", "10.77.0.1", "10.77.2.1"]


@pytest.mark.parametrize(
    ("site", "text"),
    [
        ({"name": "b", "port": 15000}, "expected no `port`"),
        ({"name": "b", "host": "127.0.0.1"}, "expected an address of the form 10\\.77\\.N\\.1 in a topology, got 127\\.0\\.0\\.1"),
        ({"name": "b", "host": "10.77.0.2"}, r"got 10\.77\.0\.2"),
        ({"name": "b", "host": "10.77.7.1"}, r"a second site at 10\.77\.7\.1"),
    ],
)
def test_in_a_topology_addresses_are_checked(site, text):
    with pytest.raises(ValidationError, match=text):
        on_a_wan({"name": "a", "host": "10.77.7.1"}, site)
