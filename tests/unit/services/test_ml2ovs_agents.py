"""What Neutron's agents are told, and what they repeat of upstream's start-up code."""

import re
from dataclasses import replace

import pytest
from upstream import check, inside

from atoll.services import DATA_PLANES, Settings
from atoll.services.ml2ovs import PROGRAMS, agents, configuration
from atoll.services.ovn import layout, ovsdb, vswitchd

NAMESPACES = [
    *("oslo.log", "oslo.messaging", "oslo.messaging.zenoh", "oslo.policy", "oslo.concurrency"),
    *("neutron", "neutron.agent", "neutron.base.agent", "neutron.dhcp.agent", "neutron.l3.agent", "neutron.metadata.agent"),
    *("neutron.ml2.ovs.agent", "neutron.ml2.macvtap.agent"),
]

UNDERSTAND = """
    from importlib.metadata import entry_points
    from oslo_config import cfg

    known = set()
    for point in entry_points(group="oslo.config.opts"):
        if point.name in sys.argv[2:]:
            for group, options in point.load()():
                known |= {((getattr(group, "name", group) or "DEFAULT").lower(), option.dest) for option in options}
    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    tell(sorted(f"{s}.{o}" for s, options in sections.items() for o in options if (s.lower(), o) not in known))
"""


@pytest.fixture
def real(settings) -> Settings:
    return replace(settings, hypervisor="qemu", network="ovs", outside="10.77.0.129/25", forwards=True)


def text(settings: Settings) -> str:
    [(name, content)] = agents.SERVICE.configuration(settings).items()
    assert name == configuration.FILE
    return content


def test_upstream_knows_every_option(real, tmp_path):
    """A misspelt option, or one that upstream has dropped, would silently do nothing."""
    file = tmp_path / "x.conf"
    file.write_text(text(real), encoding="utf-8")
    assert inside(UNDERSTAND, str(file), *NAMESPACES) == []


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
    """networking_sfc/services/sfc/drivers/ovs/driver.py (`_get_port_detail_info`) knows those of VXLAN alone."""
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


def test_agents_start_as_we_start_them():
    native = "neutron/plugins/ml2/drivers/openvswitch/agent/openflow/native"
    known = {
        ("neutron/agent/l3_agent.py", "register_opts"): "553d20a7",
        ("neutron/agent/l3_agent.py", "main"): "de162c74",
        ("neutron/agent/dhcp_agent.py", "register_options"): "3bf9c6eb",
        ("neutron/agent/dhcp_agent.py", "main"): "93215110",
        ("neutron/agent/metadata_agent.py", "main"): "337eb8d2",
        ("neutron/agent/metadata/agent.py", "UnixDomainMetadataProxy.run"): "e1133a0b",
        ("neutron/plugins/ml2/drivers/openvswitch/agent/main.py", "main"): "e0dbd025",
        (f"{native}/main.py", "main"): "e9311282",
        (f"{native}/ovs_oskenapp.py", "OVSNeutronAgentOSKenApp.start"): "8401036e",
        ("neutron/agent/l3/agent.py", "L3NATAgent.init_extension_manager"): "9ed9e895",
    }
    check("neutron", known, "services/ml2ovs/agents.py `run` starts them as threads of one process")
    check(
        "os-ken",
        {("os_ken/base/app_manager.py", "AppManager.run_apps"): "7b5073dd"},
        "services/ml2ovs/agents.py does it, and does not wait",
    )


def test_neutron_listens_to_agents_as_we_do():
    known = {
        ("neutron/service.py", "_get_rpc_workers"): "8bea0ae2",
        ("neutron/service.py", "RpcWorker"): "dae45330",
        ("neutron/common/utils.py", "disable_notifications"): "7f5b0813",
    }
    check("neutron", known, "services/neutron.py `_listener`, and `rpc_workers` in services/ml2ovs/configuration.py")


ONE_PROCESS = """
    directory = sys.argv[1]
    from atoll.services import base
    base.preload()
    base.allow_eventlet()
    from pathlib import Path
    from unittest import mock
    from atoll.services import Settings
    from atoll.services.ml2ovs import agents
    from atoll.services.ovn import layout
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
