"""The configuration of network services' agents, and the programs that they leave behind."""

import signal
import subprocess
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import SimpleNamespace

import pytest
from upstream import unknown_options

from atoll.services.neutron import network_services
from atoll.services.neutron.network_services import bgp_agent, probes, vpn_agent
from atoll.services.neutron.network_services.vpn_agent import PERSISTENT, persistent

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
    assert unknown_options(file, *COMMON, *namespaces) == []


def test_agents_are_told_no_password(settings):
    told = replace(settings, network="ovn")
    for module in (bgp_agent, vpn_agent):
        assert "secret-of-" not in "".join(module.configuration(told).values())


def test_connections_that_the_kernel_would_ask_for_are_kept_up_instead():
    needs("neutron-vpnaas")
    path = "neutron_vpnaas/services/vpn/device_drivers/template/strongswan/ipsec.conf.template"
    template = Path(str(distribution("neutron-vpnaas").locate_file(path))).read_text(encoding="utf-8")
    changed = set(persistent(template).splitlines()) - set(template.splitlines())
    assert {line.strip() for line in changed} == set("\n".join(PERSISTENT.values()).replace("    ", "").splitlines())


def test_daemons_that_outlive_their_agent_are_ended_and_nobody_else(tmp_path):
    """The kernel may have given a pid to another program since."""
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
            pass  # for a moment after its start, Linux shows no arguments of the process
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
