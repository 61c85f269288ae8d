"""The agents of network services: what they are told, and what they repeat of upstream's start-up code."""

import signal
import subprocess
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import SimpleNamespace

import pytest
from upstream import check, inside

from atoll.services import network_services
from atoll.services.network_services import bgp_agent, probes, vpn_agent
from atoll.services.network_services.vpn_agent import PERSISTENT, persistent

UNDERSTAND = """
    from importlib.metadata import entry_points
    from oslo_config import cfg

    known = set()
    for point in entry_points(group="oslo.config.opts"):
        if point.name in sys.argv[2:]:
            for group, options in point.load()():
                known |= {(str(getattr(group, "name", group) or "DEFAULT").lower(), option.dest) for option in options}
    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    told = [(section, option) for section, options in sections.items() for option in options]
    tell([f"{section}.{option}" for section, option in told if (section.lower(), option) not in known])
"""
COMMON = ["oslo.log", "oslo.messaging", "oslo.messaging.zenoh", "oslo.policy", "oslo.concurrency", "neutron", "neutron.base.agent"]


def needs(name: str) -> None:
    try:
        version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize(
    ("module", "package", "namespaces"),
    [
        (bgp_agent, "neutron-dynamic-routing", ["bgp.agent"]),
        (vpn_agent, "neutron-vpnaas", ["neutron.vpnaas.ovn_agent", "neutron.ml2.ovs.agent", "neutron.agent"]),
    ],
)
def test_upstream_knows_every_option(settings, tmp_path, module, package, namespaces):
    needs(package)
    [text] = module.configuration(replace(settings, network="ovn", network_services=("bgp", "vpn"))).values()
    file = tmp_path / "x.conf"
    file.write_text(text, encoding="utf-8")
    assert inside(UNDERSTAND, str(file), *COMMON, *namespaces) == []


def test_agents_are_told_no_password(settings):
    told = replace(settings, network="ovn")
    for module in (bgp_agent, vpn_agent):
        assert "secret-of-" not in "".join(module.configuration(told).values())


def test_bgp_agent_starts_as_we_start_it():
    needs("neutron-dynamic-routing")
    path = "neutron_dynamic_routing/services/bgp/agent/entry.py"
    known = {(path, "register_options"): "41520978", (path, "main"): "c32476fd"}
    check("neutron-dynamic-routing", known, "bgp_agent.py `run` does the same")


def test_vpn_agent_starts_as_we_start_it():
    needs("neutron-vpnaas")
    drivers = "neutron_vpnaas/services/vpn"
    known = {
        (f"{drivers}/ovn_agent.py", "main"): "b0ae1865",
        ("neutron_vpnaas/agent/ovn/vpn/agent.py", "OvnVpnAgent.start"): "31aacfc7",
        (f"{drivers}/device_drivers/strongswan_ipsec.py", "StrongSwanProcess._execute"): "ee763f48",
        (f"{drivers}/device_drivers/strongswan_ipsec.py", "StrongSwanProcess.start"): "eb6251cf",
        (f"{drivers}/device_drivers/ipsec.py", "IPsecDriver.__init__"): "4dec5a74",
        (f"{drivers}/service_drivers/ovn_ipsec.py", "BaseOvnIPsecVPNDriver._setup"): "64d220dc",
    }
    check("neutron-vpnaas", known, "vpn_agent.py, strongswan.py and vpn_driver.py replace or repeat it")


def test_connections_that_the_kernel_would_ask_for_are_kept_up_instead():
    needs("neutron-vpnaas")
    path = "neutron_vpnaas/services/vpn/device_drivers/template/strongswan/ipsec.conf.template"
    template = distribution("neutron-vpnaas").locate_file(path).read_text(encoding="utf-8")
    changed = set(persistent(template).splitlines()) - set(template.splitlines())
    assert {line.strip() for line in changed} == set("\n".join(PERSISTENT.values()).replace("    ", "").splitlines())


def test_daemons_that_outlive_their_agent_are_ended_and_nobody_else(tmp_path):
    """A pid may be another program's by now."""
    directory = tmp_path / "data" / "vpn-agent" / "routers" / "r" / "var" / "run"
    directory.mkdir(parents=True)
    pids = tmp_path / "data" / "agents" / "external" / "pids"
    pids.mkdir(parents=True)
    told = ["sh", "-c", f"sleep 60; : {tmp_path}/data/agents/x.conf"]
    with (
        subprocess.Popen(["sh", "-c", "sleep 60; : ipsec"]) as charon,
        subprocess.Popen(["sleep", "60"]) as other,
        subprocess.Popen(told) as haproxy,
    ):
        (pids / "net.pid.haproxy").write_text(str(haproxy.pid))
        while not all(Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in (charon, haproxy)):
            pass  # a moment after its start Linux shows no arguments of it
        (directory / "charon.pid").write_text(f"{charon.pid}\n")
        (directory / "starter.charon.pid").write_text(str(other.pid))
        (directory / "broken.pid").write_text("?")
        network_services.end_daemons(tmp_path)
        assert [process.wait(10) for process in (charon, haproxy)] == [-signal.SIGKILL] * 2
        assert other.poll() is None
        other.kill()
    assert list(directory.iterdir()) == []


def test_kernel_is_asked_in_a_network_of_its_own(monkeypatch):
    asked = []

    def run(command, **_options):
        asked.append(command)
        return SimpleNamespace(returncode=len(asked) - 1)

    monkeypatch.setattr(probes.subprocess, "run", run)
    assert [probes.kernel_encrypts.__wrapped__() for _ in range(2)] == [True, False]
    assert asked[0][:2] == ["unshare", "--net"]
