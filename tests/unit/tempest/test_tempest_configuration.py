import configparser
import json
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.cloud import PORT_OFFSETS
from atoll.services import SERVICES, Service, Settings, ini
from atoll.services.neutron.ml2ovs import agents
from atoll.site.composition import SECRETS
from atoll.tempest.configuration import tempest_conf
from atoll.tempest.resources import Resources

RESOURCES = Resources(("i1", "i2"), ("f1", "f2"), ("n1", "public"), "p1", ("quotas", "router"))
PORTS = {name: 15000 + offset for name, offset in PORT_OFFSETS.items()}
PASSWORDS = dict.fromkeys(SECRETS, "pass $word")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("paris", tmp_path, tmp_path, "127.0.0.1", PORTS, PASSWORDS)


@pytest.fixture
def with_guests(settings: Settings) -> Settings:
    return replace(settings, hypervisor="qemu", network="ovn", outside="10.77.0.129/25")


def rendered(settings: Settings, *more: Service, **options: ini.Sections) -> configparser.RawConfigParser:
    """Return the tempest.conf of a site with more services and options."""
    for service in (*SERVICES, *more):
        for name, text in service.configuration(settings).items():
            path = settings.etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n{ini.render(options.get(service.name, {}))}")
    parser = configparser.RawConfigParser(default_section="")
    parser.read_string(tempest_conf(settings, RESOURCES))
    return parser


def test_conf_says_where_the_site_is_and_what_is_there(settings):
    conf = rendered(settings)
    assert conf["identity"]["uri_v3"] == "http://127.0.0.1:15001/identity/v3"
    assert conf["auth"]["admin_password"] == r"pass \$word"
    assert (conf["compute"]["image_ref"], conf["compute"]["image_ref_alt"]) == ("i1", "i2")
    assert (conf["compute"]["flavor_ref"], conf["compute"]["flavor_ref_alt"]) == ("f1", "f2")
    assert dict(conf["network"]) == {"public_network_id": "n1", "floating_network_name": "public"}
    assert conf["network-feature-enabled"]["api_extensions"] == "quotas,router"
    assert conf["service_available"]["cinder"] == "false"
    assert set(conf["enforce_scope"].values()) == {"true"}


@pytest.mark.parametrize("network", ["fake", "ovn"])
def test_conf_knows_only_options_that_tempest_and_neutrons_plugin_have(settings, with_guests, network):
    config = pytest.importorskip("tempest.config")
    pytest.importorskip("neutron_tempest_plugin")  # its groups are names; Tempest's own are objects
    groups = config.list_opts()
    known = {(getattr(group, "name", group) or "DEFAULT", option.name) for group, options in groups for option in options}
    conf = rendered(settings if network == "fake" else with_guests)
    written = {(section, option) for section in conf.sections() for option in conf[section]}
    assert written - known - {("DEFAULT", "log_file"), ("oslo_concurrency", "lock_path")} == set()


def test_flags_of_a_usual_site(settings):
    conf = rendered(settings)
    assert conf["identity-feature-enabled"]["security_compliance"] == "false"
    assert "user_lockout_duration" not in conf["identity"]
    flags = conf["image-feature-enabled"]
    assert [flags[name] for name in ("manage_locations", "http_store_enabled", "store_weight_enabled")] == ["false"] * 3
    assert conf["image"]["image_caching_enabled"] == "false"


def test_flags_follow_the_options_of_the_site(settings):
    conf = rendered(
        settings,
        keystone={"security_compliance": {"lockout_failure_attempts": 3, "lockout_duration": 7, "unique_last_password_count": 4}},
        glance={
            "DEFAULT": {"enabled_backends": ["files:file", "web:http"], "show_multiple_locations": True, "image_cache_dir": "/cache"},
            "files": {"weight": 1},
        },
    )
    assert conf["identity-feature-enabled"]["security_compliance"] == "true"
    names = ("user_lockout_failure_attempts", "user_lockout_duration", "user_unique_last_password_count")
    assert [conf["identity"][name] for name in names] == ["3", "7", "4"]
    flags = conf["image-feature-enabled"]
    assert [flags[name] for name in ("manage_locations", "http_store_enabled", "store_weight_enabled")] == ["true"] * 3
    assert conf["image"]["image_caching_enabled"] == "true"


def test_nobody_signs_in_to_a_record(settings):
    conf = rendered(settings)
    assert conf["validation"]["run_validation"] == "false"
    features = conf["compute-feature-enabled"]
    assert [features[name] for name in ("console_output", "vnc_console", "serial_console")] == ["false"] * 3


def test_guests_are_signed_in_to_by_floating_ip(with_guests):
    conf = rendered(with_guests)
    assert dict(conf["validation"]) == {
        "run_validation": "true", "connect_method": "floating", "image_ssh_user": "root", "image_alt_ssh_user": "root"
    }  # fmt: skip
    features = conf["compute-feature-enabled"]
    assert [features[name] for name in ("console_output", "vnc_console", "serial_console", "resize")] == ["true"] * 4
    assert [features[name] for name in ("live_migration", "cold_migration", "change_password", "spice_console")] == ["false"] * 4
    assert dict(conf["scenario"]) == {"dhcp_client": "udhcpc", "target_dir": "/disk"}


def test_options_of_the_neutron_plugin(settings, with_guests):
    fake = rendered(settings)
    assert (fake["neutron_plugin_options"]["available_type_drivers"], "firewall_driver" in fake["neutron_plugin_options"]) == (
        "local,flat,vlan,geneve", False
    )  # fmt: skip
    conf = rendered(with_guests)
    options = conf["neutron_plugin_options"]
    assert (options["firewall_driver"], options["provider_vlans"], options["dns_domain"]) == ("ovn", "public", "atoll.internal")
    assert [(each["provider:network_type"], each["mtu"]) for each in json.loads(options["test_mtu_networks"])] == [
        ("geneve", 1200), ("geneve", 1300)
    ]  # fmt: skip
    assert conf["fwaas"]["driver"] == "ovn"


def test_options_of_the_neutron_plugin_with_agents(with_guests):
    conf = rendered(replace(with_guests, network="ovs", network_services=("sfc",)), agents.SERVICE)
    options = conf["neutron_plugin_options"]
    assert (options["firewall_driver"], conf["fwaas"]["driver"]) == ("iptables_hybrid", "iptables_v2")
    assert (options["agent_availability_zone"], options["l3_agent_mode"]) == ("nova", "legacy")
    assert json.loads(options["test_mtu_networks"])[0]["provider:network_type"] == "vxlan"
