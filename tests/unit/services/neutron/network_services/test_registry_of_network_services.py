"""The registry of network services, and the configuration of a site's services for them."""

import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, entry_points, version

import pytest
from upstream import inside

from atoll.cloud.network_services import NETWORKS
from atoll.services import Service
from atoll.services.neutron import ml2ovs, network_services, ovn
from atoll.services.neutron import service as neutron
from atoll.services.neutron.network_services import REGISTRY, Implementation, Obstacle, installation, sfc, vpn
from atoll.services.neutron.network_services.contract import NetworkService

AGENTS = {
    "ovn-agent": "neutron.agent.ovn.extensions",
    "ovs-agent": "neutron.agent.l2.extensions",
    "l3-agent": "neutron.agent.l3.extensions",
}
"""Entry-point groups of upstream's extensions, by agent."""

EVERY = [(service, network) for service in REGISTRY.values() for network in service.implementations]
IDS = [f"{service.name}-{network}" for service, network in EVERY]

DATA_PLANES = {
    "fake": ("router", "metering", "qos", "segments", "port_forwarding", "given-id", "expanded-ports"),
    "ovn": ("ovn-router", "trunk", "qos", "segments", "port_forwarding", "given-id", "expanded-ports"),
    "ovs": ("router", "trunk", "qos", "segments", "port_forwarding", "given-id", "expanded-ports"),
}
"""The plug-ins of a site whose YAML names no network service."""


def installed(service: NetworkService) -> bool:
    try:
        return all(map(version, service.distributions))
    except PackageNotFoundError:
        return False


def plugins(settings) -> tuple[str, ...]:
    [line] = [line for line in text(settings).splitlines() if line.startswith("service_plugins")]
    return tuple(line.partition(" = ")[2].split(","))


def text(settings) -> str:
    return neutron.configuration(settings)["neutron/neutron.conf"]


def test_model_and_registry_know_the_same():
    assert {name: set(networks) for name, networks in NETWORKS.items()} == {
        name: set(each.implementations) for name, each in REGISTRY.items()
    }
    assert all(set(service.default) <= set(service.implementations) for service in REGISTRY.values())


@pytest.mark.parametrize("network", DATA_PLANES)
def test_site_that_names_none_has_the_usual(settings, network):
    assert plugins(replace(settings, network=network)) == DATA_PLANES[network]
    assert "service_provider" not in text(replace(settings, network=network))


@pytest.mark.parametrize("network", DATA_PLANES)
def test_naming_what_a_site_has_anyway_changes_nothing(settings, network):
    usual = tuple(name for name, service in REGISTRY.items() if network in service.default)
    assert text(replace(settings, network=network, network_services=usual)) == text(replace(settings, network=network))


def test_each_provider_is_a_line_of_its_own(settings):
    told = replace(settings, network="ovn", network_services=("firewall", "tap"))
    assert {"firewall_v2", "taas", "tapmirror"} < set(plugins(told))
    providers = [line for line in text(told).splitlines() if line.startswith("service_provider")]
    assert [provider.split(" = ")[1].split(":")[0] for provider in providers] == ["FIREWALL_V2", "TAAS"]


def test_neutron_is_called_by_agents_only_if_there_are_any(settings):
    told = replace(settings, network="ovn", network_services=("firewall", "log"))
    assert not network_services.called_by_agents(told)
    assert network_services.called_by_agents(replace(told, network_services=("firewall", "bgp")))


def test_processes_are_those_of_what_is_named():
    assert [service.name for service in network_services.processes(["vpn", "bgp"], "ovn")] == ["bgp-agent", "vpn-agent"]
    assert network_services.processes(["bgp"], "ovs") == network_services.processes(["bgp"], "ovn")
    assert network_services.processes([], "ovn") == ()


@pytest.mark.parametrize(
    "service",
    [each for service in REGISTRY.values() for implementation in service.implementations.values() for each in implementation.processes],
)
def test_process_is_forked_from_a_fork_server_that_every_site_has_or_its_own(service: Service):
    assert service.fork_server in {"neutron", service.name}
    assert (service.name in network_services.templates()) == (service.fork_server == service.name)
    assert set(service.needs) <= {"keystone", "neutron", *(other.name for other in ovn.SERVICES)}


def test_agents_are_told_what_is_needed_of_them(settings, monkeypatch):
    implementations = {
        "ovn": Implementation(extensions={"ovn-agent": ("x",)}),
        "ovs": Implementation(extensions={"ovs-agent": ("x",)}, agents={"ovs-agent": lambda _settings: {"y": {"z": 1}}}),
    }
    monkeypatch.setitem(REGISTRY, "firewall", replace(REGISTRY["firewall"], implementations=implementations))
    told = replace(settings, network_services=("firewall",))
    beside_ovn = neutron.configuration(replace(told, network="ovn"))["neutron/neutron.conf"]
    assert "extensions = metadata,x\n" in beside_ovn
    [beside_ovs] = ml2ovs.configuration.agents(replace(told, network="ovs")).values()
    assert "extensions = qos,x\n" in beside_ovs
    assert "[y]\nz = 1\n" in beside_ovs


@pytest.mark.parametrize(("service", "network"), EVERY, ids=IDS)
def test_upstream_has_what_is_named(service, network):
    if not installed(service):
        pytest.skip(f"not installed: {', '.join(service.distributions)}")
    implementation = service.implementations[network]
    assert set(implementation.plugins) <= {point.name for point in entry_points(group="neutron.service_plugins")}
    for agent, names in implementation.extensions.items():
        assert set(names) <= {point.name for point in entry_points(group=AGENTS[agent])}
    for provider in implementation.providers:
        kind, name, driver, default = provider.split(":")
        assert kind.isupper()
        assert (bool(name), default) == (True, "default")
        assert inside("import importlib; m, _, c = sys.argv[1].rpartition('.'); tell(hasattr(importlib.import_module(m), c))", driver)


def test_missing_package_is_told_with_the_extra(monkeypatch):
    monkeypatch.setattr(installation, "installed", dict)
    found = dict(network_services.obstacles(["qos", "firewall"], "ovn"))
    hint = "`pip install 'atoll[network]'`, or leave out `firewall`"
    assert found == {"firewall": Obstacle("the Python package neutron-fwaas is not installed", hint)}


def test_missing_program_is_told_with_its_package(monkeypatch):
    monkeypatch.setattr(installation, "installed", lambda: {"neutron-vpnaas": "29.0.0"})
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ipsec" else name)
    [(name, obstacle)] = network_services.obstacles(["vpn"], "ovn")
    assert (name, obstacle) == ("vpn", Obstacle("not installed: ipsec", "apt-get install strongswan-starter"))


def test_kernel_without_encryption_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "installed", lambda: {"neutron-vpnaas": "29.0.0"})
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(vpn, "kernel_encrypts", lambda: False)
    monkeypatch.setattr(vpn.vpn_agent, "USER_SPACE", tmp_path / "plugin.so")
    [(_name, obstacle)] = network_services.obstacles(["vpn"], "ovn")
    assert "CONFIG_INET_ESP" in obstacle.text
    (tmp_path / "plugin.so").touch()
    assert list(network_services.obstacles(["vpn"], "ovn")) == []


def test_kernel_without_filters_for_bridges_is_told(monkeypatch):
    monkeypatch.setattr(installation, "installed", lambda: {"networking-sfc": "23.0.0"})
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sfc, "kernel_filters_bridges", lambda: False)
    [(name, obstacle)] = network_services.obstacles(["sfc"], "ovs")
    assert name == "sfc"
    assert "br_netfilter" in obstacle.text


MAKE = """
    import sqlite3
    from contextlib import closing
    from pathlib import Path
    from atoll.services import base
    from atoll.services.neutron import network_services
    from atoll.services.neutron import service as neutron
    directory, *stamps_of_packages = map(Path, sys.argv[1:])
    base.preload()
    base.allow_eventlet()
    neutron._make_template(directory)
    with closing(sqlite3.connect(directory / "neutron.db")) as database, database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        stamps = {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in tables if name.startswith("alembic")}
        # What a database looks like that was made before the packages were installed.
        for name in stamps_of_packages:
            database.execute(f"drop table {name}")
    neutron._make_tables(f"sqlite:///{directory}/neutron.db?plugin=atoll")
    with closing(sqlite3.connect(directory / "neutron.db")) as database, database:
        again = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    tell({"tables": tables, "stamps": stamps, "again": again})
"""


def test_database_has_the_tables_of_all_that_are_installed_and_gets_them_later(tmp_path, settings):
    here = [service for service in REGISTRY.values() if service.stamp and installed(service)]
    if not here:
        pytest.skip("no network service is installed")
    found = inside(MAKE, str(tmp_path), *(service.stamp for service in here))
    for service in here:
        assert found["stamps"][service.stamp] > 0, f"{service.name}: the version of its tables is not recorded"
    assert set(found["again"]) == set(found["tables"])
    told = replace(settings, network="ovn", network_services=tuple(service.name for service in here))
    assert network_services.stamps(told) <= set(found["tables"])
