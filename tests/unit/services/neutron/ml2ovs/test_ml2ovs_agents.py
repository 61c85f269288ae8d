"""The configuration of Neutron's agents for ML2/OVS."""

import re
from dataclasses import replace

import pytest
from upstream import inside, unknown_options

from atoll.services import DATA_PLANES, Settings
from atoll.services.neutron.ml2ovs import PROGRAMS, agents, configuration
from atoll.services.neutron.ovn import layout, ovsdb, vswitchd

NAMESPACES = [
    *("oslo.log", "oslo.messaging", "oslo.messaging.zenoh", "oslo.policy", "oslo.concurrency"),
    *("neutron", "neutron.agent", "neutron.base.agent", "neutron.dhcp.agent", "neutron.l3.agent", "neutron.metadata.agent"),
    *("neutron.ml2.ovs.agent", "neutron.ml2.macvtap.agent"),
]


@pytest.fixture
def real(settings) -> Settings:
    return replace(settings, hypervisor="qemu", network="ovs", outside="10.77.0.129/25", forwards=True)


def text(settings: Settings) -> str:
    [(name, content)] = agents.SERVICE.configuration(settings).items()
    assert name == configuration.FILE
    return content


def test_upstream_knows_every_option(real, tmp_path):
    """Upstream would silently ignore a misspelt option, or one that it has dropped."""
    file = tmp_path / "x.conf"
    file.write_text(text(real), encoding="utf-8")
    assert unknown_options(file, *NAMESPACES) == []


def test_agents_are_told_no_password_but_that_of_metadata(real):
    assert {name for name in real.secrets if f"secret-of-{name}-" in text(real)} == {"metadata"}


def test_paths_are_the_sites_own(real):
    paths = re.findall(r"(?:(?<=[ ,=])|(?<=unix:))/[^ ,?\n]+", text(real))
    assert paths
    assert all(path.startswith(f"{real.directory}/") for path in paths)


def test_agent_of_the_switch_says_it_looks_only_when_somebody_debugs(real):
    assert "ovs_neutron_agent=WARNING" in text(real)
    assert "ovs_neutron_agent=WARNING" not in text(replace(real, debug=True))


def test_each_agent_has_the_extensions_of_the_network_services_that_are_its_own(real):
    assert "extensions = qos\n" in text(real)
    assert "extensions = qos,sfc\n" in text(replace(real, network_services=("sfc", "firewall")))


def test_chains_and_firewalls_of_open_vswitch_do_not_go_together(real):
    assert "firewall_driver = openvswitch\n" in text(real)
    assert "firewall_driver = iptables_hybrid\n" in text(replace(real, network_services=("sfc",)))


def test_networks_of_projects_can_be_in_chains(real):
    """networking_sfc/services/sfc/drivers/ovs/driver.py (`_get_port_detail_info`) supports VXLAN networks alone."""
    told = configuration.server(real)
    assert told["ml2"]["project_network_types"] == "vxlan"
    assert "tunnel_types = vxlan,geneve\n" in text(real)


def test_switch_is_told_nothing_of_ovn(real):
    words = vswitchd._setup(real)
    assert 'external-ids:hostname="paris"' in words
    assert not [word for word in words if "ovn" in word]


def test_nothing_but_the_switch_has_a_database(real, monkeypatch, tmp_path):
    prepared = []
    monkeypatch.setattr(ovsdb, "_prepare", lambda file, _schema: prepared.append(file.name))
    monkeypatch.setattr(ovsdb, "become", lambda *_arguments: None)
    child = type("Child", (), {"arguments": {"directory": str(real.directory)}})
    real.directory.mkdir(parents=True)
    for network, names in {"ovs": ["conf.db"], "ovn": ["conf.db", "ovnnb.db", "ovnsb.db"]}.items():
        replace(real, network=network).save()
        prepared.clear()
        ovsdb.run(child)
        assert prepared == names


def test_each_service_has_a_name_of_its_own_and_what_it_needs():
    names = [service.name for service in DATA_PLANES["ovs"]]
    assert len(set(names)) == len(names)
    assert set(agents.SERVICE.needs) == {"vswitchd", "neutron", "bagpipe-bgp"}
    assert "dnsmasq" in PROGRAMS


def test_dnsmasq_stays_who_it_is(real):
    assert configuration.dnsmasq_file(real).parent == layout.agents_state(real)
    assert f"dnsmasq_config_file = {configuration.dnsmasq_file(real)}\n" in text(real)
    assert configuration.DNSMASQ == "user=root\ngroup=root\n"


ONE_PROCESS = """
    directory = sys.argv[1]
    from atoll.services import base
    base.preload()
    base.allow_eventlet()
    from pathlib import Path
    from unittest import mock
    from atoll.services import Settings
    from atoll.services.neutron.ml2ovs import agents
    from atoll.services.neutron.ovn import layout
    settings = Settings.load(directory)
    with mock.patch("neutron.common.config.init"):
        agents._configure(settings)
    from oslo_config import cfg
    cfg.CONF(["--config-file", str(Path(directory) / "agents.conf")], project="neutron", default_config_files=[])
    cfg.CONF.import_opt("extensions", "neutron.agent.agent_extensions_manager", group="agent")
    tell([cfg.CONF.host, cfg.CONF.agent.extensions, cfg.CONF.OVS.bridge_mappings, cfg.CONF.nova_metadata_port, cfg.CONF.dhcp_driver])
"""


def test_one_process_can_hold_the_options_of_all_agents(real):
    real.directory.mkdir(parents=True)
    real.save()
    (real.directory / "agents.conf").write_text(text(real), encoding="utf-8")
    found = inside(ONE_PROCESS, str(real.directory))
    assert found == ["paris", ["qos"], ["public:br-ex"], real.ports["metadata"], "neutron.agent.linux.dhcp.Dnsmasq"]
