"""The network services of a site in `up`."""

from dataclasses import replace
from pathlib import Path

import pytest

from atoll.cloud import parse_cloud
from atoll.errors import AtollError
from atoll.services.neutron.network_services import REGISTRY, Implementation, Obstacle, bgp_agent, installation
from atoll.site import preflight
from atoll.site.composition import SECRETS, _digest, log_names, render, services_of
from atoll.site.machine import Machine
from atoll.site.up import up

MACHINE = Machine("qemu", "netdev")


@pytest.fixture
def everywhere(monkeypatch):
    """Simulate a machine with all programs, on which the service `bgp` needs no packets."""
    monkeypatch.setattr(installation, "installed", lambda: {each: "1" for service in REGISTRY.values() for each in service.distributions})
    monkeypatch.setitem(preflight.complaints_of_network_services.__globals__["NETWORKS"], "bgp", ("fake",))
    implementation = Implementation(plugins=("bgp",), processes=(bgp_agent.SERVICE,), rpc=True)
    monkeypatch.setitem(REGISTRY, "bgp", replace(REGISTRY["bgp"], implementations={"fake": implementation, "ovn": implementation}))


def written(tmp_path: Path, services: str) -> Path:
    path = tmp_path / "cloud.yaml"
    path.write_text(f"sites:\n- {{name: paris, compute: fake, network_services: {services}}}\n")
    return path


def test_agents_run_after_neutron_and_have_logs_of_their_own():
    cloud = parse_cloud("sites:\n- {name: a, compute: libvirt, network: ovn, network_services: [bgp, firewall]}", "c.yaml")
    names = [service.name for service in services_of(cloud, cloud.sites[0])]
    assert names.index("bgp-agent") > names.index("neutron")
    assert "bgp-agent" in log_names(cloud, cloud.sites[0])


def test_list_may_change(state, cache, runtime, everywhere, tmp_path):
    """Processes of new services are started and those of removed ones are stopped; besides, only Neutron restarts."""
    up(state, cache, written(tmp_path, "[]"))
    assert up(state, cache, written(tmp_path, "[bgp]")).started == ("paris/bgp-agent", "paris/neutron")
    assert "paris/bgp-agent" in runtime.signatures
    assert up(state, cache, written(tmp_path, "[bgp]")).started == ()
    assert up(state, cache, written(tmp_path, "[qos]")).started == ("paris/neutron",)
    assert "paris/bgp-agent" not in runtime.signatures
    assert not (state.site("paris") / "etc" / bgp_agent.FILE).exists()


@pytest.mark.usefixtures("everywhere")
def test_an_impossible_service_is_refused_before_any_change(state, cache, runtime, tmp_path, monkeypatch):
    implementation = Implementation(obstacle=lambda: Obstacle("the kernel is too small", "get a larger one"))
    monkeypatch.setitem(REGISTRY, "bgp", replace(REGISTRY["bgp"], implementations={"fake": implementation}))
    with pytest.raises(AtollError) as caught:
        up(state, cache, written(tmp_path, "[bgp]"))
    assert caught.value.kind.code == "network.unavailable"
    assert caught.value.message == "paris is to have the network service bgp, but the kernel is too small"
    assert caught.value.hint == "get a larger one"
    assert not (state.root / "sites").exists()
    assert runtime.plans == []


def test_service_with_an_api_restarts_who_tells_of_it_and_nobody_else():
    """The switch above all must not restart, as guests would notice."""
    cloud = parse_cloud("sites: [{name: a, compute: libvirt, network: ovn}]\ntopology: {preset: mesh}", "c.yaml")
    digests = []
    for named in ((), ("load-balancer",)):
        site = cloud.sites[0].model_copy(update={"network_services": named})
        rendered = render(cloud.model_copy(update={"sites": (site,)}), site, Path("/s/a"), Path("/t"), dict.fromkeys(SECRETS, "x"), MACHINE)
        digests.append({service.name: _digest(rendered, service, "") for service in rendered.services})
    before, after = digests
    assert after.keys() - before.keys() == {"octavia"}
    assert {name for name in before if before[name] != after[name]} == {"keystone", "gateway"}


def test_data_plane_that_was_chosen_for_the_site_is_used(state, cache, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("ATOLL_COMPUTE", "fake")
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- {name: paris, network_services: [firewall]}\n")
    with pytest.raises(AtollError) as caught:
        up(state, cache, path)
    assert caught.value.kind.code == "cloud.invalid"
    assert caught.value.message.startswith("paris: firewall does not work with `network: fake`")
