"""Configuration and commands of the programs of OVN, and of Neutron's agent beside it."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from upstream import inside

from atoll.services import DATA_PLANES
from atoll.services.neutron import service as neutron
from atoll.services.neutron.ovn import layout, ovsdb, vswitchd
from atoll.services.nova import libvirtd


@pytest.fixture
def real(settings):
    return replace(settings, hypervisor="qemu", network="ovn", outside="10.77.0.129/25", forwards=True)


def test_sockets_are_the_sites_own_and_not_beside_those_of_the_bus(real):
    assert layout.database_socket(real).parent == real.sockets / "ovs"
    assert layout.environment(real) == {"OVS_RUNDIR": f"{real.sockets}/ovs", "OVN_RUNDIR": f"{real.sockets}/ovs"}


@pytest.mark.parametrize(("ofport", "types"), [("3\n", ["type=none", 'type=""']), ("-1\n", []), ("[]\n", []), ("", [])])
def test_only_an_interface_that_the_switch_has_open_is_opened_anew(real, monkeypatch, ofport, types):
    """The switch opens an interface that it lacks, or waits for, as soon as its device exists."""
    told = []

    def run(command, **_options):
        told.append(command[3:])
        return subprocess.CompletedProcess(command, 0, ofport, "")

    monkeypatch.setattr(layout.subprocess, "run", run)
    layout.reopen_port(real, "tap1")
    assert told[0] == ["--if-exists", "get", "Interface", "tap1", "ofport"]
    assert told[1:] == [["set", "Interface", "tap1", each] for each in types]


def test_interface_is_up_after_the_switch_has_opened_it(real, monkeypatch):
    """Earlier would be too early: the switch then sets all flags to those that it has read before."""
    told = []
    monkeypatch.setattr(layout.subprocess, "run", lambda command, **_options: told.append(command))
    layout.raise_port(real, "tap1")
    assert told == [], "the switch must not be asked to open an interface without a device"
    monkeypatch.setattr(layout.socket, "if_nametoindex", {"tap1": 7}.__getitem__)
    layout.raise_port(real, "tap1")
    assert [told[0][3:], told[1]] == [["wait-until", "Interface", "tap1", "ofport>0"], ["ip", "link", "set", "tap1", "up"]]


def test_chassis_is_a_uuid_of_the_site_alone(real):
    assert layout.chassis(real) == layout.chassis(replace(real, host="10.77.3.1"))
    assert len({layout.chassis(replace(real, site=name, cloud=cloud)) for name in "ab" for cloud in "xy"}) == 4


def test_switch_is_told_who_it_is(real):
    words = vswitchd._setup(real)
    assert 'external-ids:hostname="paris"' in words
    assert f'external-ids:ovn-remote="unix:{real.sockets}/ovs/db.sock"' in words
    assert 'external-ids:ovn-bridge-datapath-type="netdev"' in words
    assert 'external-ids:ovn-bridge-mappings="public:br-ex"' in words


@pytest.mark.skipif(not ovsdb.SCHEMAS["ovnnb"].exists(), reason="OVN is not installed")
def test_databases_are_made_once_and_brought_up_to_date(tmp_path):
    file, schema = tmp_path / "ovn" / "nb.db", ovsdb.SCHEMAS["ovnnb"]
    old = tmp_path / "old.ovsschema"
    data = json.loads(schema.read_text())
    old.write_text(json.dumps(data | {"version": "0.0.1", "tables": {"NB_Global": {"columns": {"name": {"type": "string"}}}}}))
    ovsdb._prepare(file, old)
    assert ovsdb._tool("needs-conversion", file, schema) == "yes"
    ovsdb._prepare(file, schema)
    assert ovsdb._tool("needs-conversion", file, schema) == "no"
    before = file.read_bytes()
    ovsdb._prepare(file, schema)
    assert file.read_bytes() == before


def test_answers(tmp_path):
    assert layout.answers(tmp_path / "nobody") is False


def test_each_service_has_a_name_of_its_own_and_needs_those_before_it():
    services = DATA_PLANES["ovn"]
    names = [service.name for service in services]
    assert len(set(names)) == len(names)
    for index, service in enumerate(services):
        assert set(service.needs) <= set(names[:index])


def test_libvirt_keeps_to_the_sites_directories(real):
    files = libvirtd.configuration(real)
    assert 'auth_unix_rw = "none"' in files["libvirt/libvirtd.conf"]
    assert "cgroup_controllers = []" in files["libvirt/qemu.conf"]
    assert libvirtd.uri(real).endswith(f"{real.sockets}/libvirt/libvirt-sock")


def test_ovn_tools_are_asked_by_pid_file(real):
    """Debian's ovn-controller has no option --unixctl, so all programs are found in the same way."""
    assert "--pidfile" in layout.command(real, "ovn-controller")


@pytest.mark.skipif(shutil.which("ovn-appctl") is None, reason="OVN's tools are missing")
def test_a_daemon_that_does_not_run_has_no_answer(real):
    assert layout.ask(real, "ovn-controller", "version") is None


AGENT = """
    import os
    from oslo_config import cfg
    from neutron.agent.ovn.agent import ovn_neutron_agent
    from neutron.agent.ovn.extensions import metadata
    from neutron.common import config
    from neutron.conf.agent.ovn.ovn_neutron_agent import config as agent_config

    config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[sys.argv[1]])
    agent_config.register_opts()
    agent = ovn_neutron_agent.OVNNeutronAgent(cfg.CONF)
    agent._initialize_ext_manager()
    tell([agent.ext_manager.names(), cfg.CONF.metadata_proxy_socket, cfg.CONF.external_pids, cfg.CONF.metadata_workers])
    sys.stdout.flush()
    os._exit(0)  # the agent has threads
"""


def test_agent_finds_what_it_needs_in_neutrons_own_configuration(real, tmp_path):
    """The agent's options are registered beside the server's; if upstream defines one of both differently, registration fails."""
    file = tmp_path / "neutron.conf"
    file.write_text(neutron.configuration(real)["neutron/neutron.conf"])
    names, socket, pids, workers = inside(AGENT, str(file))
    assert names == ["metadata"]
    assert socket == str(layout.directory(real) / "metadata.sock")
    assert pids == str(layout.agents_state(real) / "external" / "pids")
    assert workers == 0
