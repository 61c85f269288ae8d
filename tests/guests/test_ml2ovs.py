"""Guests on networks of Neutron's agents (`network: ovs`), and services that only these provide.

Paris has the default services; nice also has service function chains and BGP VPNs, and lyon BGP VPNs, if their packages are installed.
"""

import base64
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pytest
from deployment import Deployment, await_exit, kill, until
from landscape import FLAVOR, PATIENCE_S, Guest, Landscape

from atoll.site.machine import obstacle

PACKAGES = {"sfc": "networking-sfc", "bgpvpn": "networking-bagpipe"}
AGENTS = {"Open vSwitch agent", "L3 agent", "DHCP agent", "Metadata agent"}
SAYS = "#!/bin/sh\nexec >/dev/console 2>&1\n"


def _pip(name: str) -> bool:
    try:
        return bool(version(PACKAGES[name]))
    except PackageNotFoundError:
        return False


HERE = [name for name in PACKAGES if _pip(name)]

REFLECTOR = "10.77.0.129"
"""The address of the test's route reflector: paris's on its external network."""

BGPD = Path("/usr/lib/frr/bgpd")
REFLECTS = """\
router bgp 64512
 bgp router-id 192.0.2.1
 no bgp default ipv4-unicast
 neighbor vpn peer-group
 neighbor vpn remote-as 64512
 bgp listen range 10.77.0.0/16 peer-group vpn
 address-family ipv4 vpn
  neighbor vpn activate
  neighbor vpn route-reflector-client
"""

WHY = obstacle(["ovs"])
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no such guests here: {WHY.message if WHY else ''}")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("ml2ovs") / "state")
    site = {"compute": "libvirt", "network": "ovs", "options": {"neutron": {"BGP": {"peers": REFLECTOR}}}}
    sites = [{"name": "paris", **site}, {"name": "nice", **site, "network_services": HERE}]
    if "bgpvpn" in HERE:
        sites.append({"name": "lyon", **site, "network_services": ["bgpvpn"]})
    made.atoll("up", made.file(*sites, topology={"preset": "mesh"}))
    yield made
    processes = [psutil.Process(pid) for pid in made.pids().values()]
    made.atoll("destroy", "--yes")
    await_exit(processes)
    assert programs_of(made) == set()
    shutil.rmtree(made.root.parent)


@pytest.fixture(scope="module")
def paris(cloud, image) -> Landscape:
    return Landscape(cloud, "paris", image)


@pytest.fixture(scope="module")
def nice(cloud, image) -> Landscape:
    return Landscape(cloud, "nice", image)


@pytest.fixture(autouse=True)
def _inside(request) -> None:
    """Reconnect to the sites' networks, which are new ones after the cloud was down."""
    for name in {"paris", "nice", "lyon"} & set(request.fixturenames):
        request.getfixturevalue(name).come_in()


@pytest.fixture(scope="module")
def web(paris) -> Guest:
    paris.come_in()  # fixtures of the module are made before `_inside`
    return paris.boot("web")


@pytest.fixture(scope="module")
def floating(paris, web) -> str:
    _id, address = paris.floating_ip(web)
    paris.await_page(address, "web")
    return address


def programs_of(cloud: Deployment) -> set[str]:
    """Return the names of the running programs that agents have started."""
    found = [process for process in psutil.process_iter(["name", "cmdline"]) if str(cloud.root) in " ".join(process.info["cmdline"] or [])]
    return {process.info["name"] for process in found} & {"haproxy", "dnsmasq", "radvd"}


def alive(landscape: Landscape) -> set[str]:
    agents = landscape.api.expect("network", "GET", "/v2.0/agents")["agents"]
    return {agent["agent_type"] for agent in agents if agent["alive"]}


def await_ready(cloud: Deployment, name: str, other_than: int) -> None:
    def back() -> bool:
        status = cloud.processes().get(name)
        return bool(status and status.state == "ready" and status.pid != other_than)

    until(back, f"{name} is back", PATIENCE_S)


def test_agents_are_alive_and_a_guest_is_reached_from_outside(paris, web, floating):
    assert alive(paris) == AGENTS
    assert "told by: the metadata service" in paris.page(floating)


def test_guests_reach_each_other_by_address_and_name_and_what_is_outside(paris, web, floating):
    outside = f"http://{paris.settings.host}:{paris.settings.ports['gateway']}/"
    script = (
        f"{SAYS}ping -c 3 {web.address}; wget -q -O - http://{web.address}/; nslookup web\n"
        f'timeout 30 wget -q -O - {outside} | grep -o \'"site":"paris"\'; echo told: all\n'
    )
    peer = paris.boot("peer", script=script)
    said = peer.await_console(r"(?s)PING .*told: all").group(0)
    assert "3 packets received" in said
    assert "<h1>web</h1>" in said
    assert "Name:\tweb." in said
    assert '"site":"paris"' in said
    peer.delete()


def test_security_group_closes_and_opens(paris, floating):
    paris.close(floating)
    paris.allow(paris.group, "tcp")
    paris.await_page(floating, "web")


def test_packets_go_on_while_the_agents_are_dead_and_all_goes_on_when_they_are_back(cloud, paris, floating):
    lost, ended = [], threading.Event()

    def ask() -> None:
        while not ended.wait(0.2):
            if not paris.page(floating):
                lost.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    pid = cloud.pids()["paris/ovs-agents"]
    kill(pid)
    await_ready(cloud, "paris/ovs-agents", pid)
    ended.set()
    asking.join()
    assert lost == []
    after = paris.boot("after")
    after.await_ready()
    after.delete()


def test_routers_are_made_anew_when_the_switch_was_killed(cloud, paris, floating):
    pid, agents = (cloud.pids()[f"paris/{name}"] for name in ("vswitchd", "ovs-agents"))
    kill(pid)
    await_ready(cloud, "paris/vswitchd", pid)
    await_ready(cloud, "paris/ovs-agents", agents)
    paris.await_page(floating, "web")


def test_nothing_is_left_after_down_and_all_is_there_after_up(cloud, paris, floating):
    assert programs_of(cloud) >= {"haproxy", "dnsmasq"}
    cloud.atoll("down")
    assert programs_of(cloud) == set()
    cloud.atoll("up")
    paris.come_in()
    paris.await_page(floating, "web")
    until(lambda: alive(paris) == AGENTS, "agents are alive", PATIENCE_S)


# Services that OVN lacks


@pytest.fixture(scope="module")
def server(nice) -> Guest:
    nice.come_in()
    return nice.boot("server")


@pytest.mark.skipif("sfc" not in HERE, reason="networking-sfc is not installed")
def test_chain_leads_through_a_guest(nice, server):
    forward = "for each in all eth0; do echo 0 >/proc/sys/net/ipv4/conf/$each/rp_filter; done\necho 1 >/proc/sys/net/ipv4/ip_forward"
    middle = boot_unfiltered(nice, "middle", f"{SAYS}{forward}\necho forwards: all\n")
    way = f"traceroute -n -w 1 -q 1 -m 2 {server.address} | tail -n +2 | head -n 1"
    page = f"timeout 4 wget -q -O - http://{server.address}/ | grep -c '<h1>server'"
    client = nice.boot("client", script=f"{SAYS}while sleep 2; do echo way: $({way}) page: $({page}); done\n")
    middle.await_console("forwards: all")
    client.await_console(r"way: .*page: 1")
    assert middle.address not in client.console()

    pair = chained(nice, "port_pair", ingress=middle.port, egress=middle.port)
    group = chained(nice, "port_pair_group", port_pairs=[pair])
    flow = chained(nice, "flow_classifier", ethertype="IPv4", logical_source_port=client.port, destination_ip_prefix=f"{server.address}/32")
    chain = chained(nice, "port_chain", port_pair_groups=[group], flow_classifiers=[flow])
    client.await_console(rf"way: 1 +{middle.address} .*page: 1")

    nice.api.call("network", "DELETE", f"/v2.0/sfc/port_chains/{chain}")
    middle.delete()
    client.await_console(rf"(?s){middle.address} .*way: 1 +\* +page: 1")
    client.delete()


def chained(landscape: Landscape, kind: str, **fields: object) -> str:
    """Create a part of a chain and return its id."""
    made = landscape.api.expect("network", "POST", f"/v2.0/sfc/{kind}s", {kind: fields})
    return str(made[kind]["id"])


def boot_unfiltered(landscape: Landscape, name: str, script: str) -> Guest:
    """Boot a guest that may forward packets of others."""
    port = landscape.neutron("port", network_id=landscape.network, port_security_enabled=False)
    data = base64.b64encode(script.encode()).decode()
    wanted = {"name": name, "imageRef": landscape.image, "flavorRef": FLAVOR, "networks": [{"port": port}], "user_data": data}
    guest = Guest(landscape, landscape.api.expect("compute", "POST", "/servers", {"server": wanted})["server"]["id"], name, port)
    guest.await_status("ACTIVE")
    return guest


@pytest.fixture(scope="module")
def lyon(cloud, nice, image) -> Landscape:
    return Landscape(cloud, "lyon", image)


@pytest.fixture
def reflector(cloud, tmp_path) -> Iterator[None]:
    """Run FRR's BGP daemon in paris's network as a route reflector between the sites."""
    (tmp_path / "bgpd.conf").write_text(REFLECTS, encoding="ascii")
    network = cloud.wan().namespace("paris").network
    files = ("-f", tmp_path / "bgpd.conf", "-i", tmp_path / "pid", "--vty_socket", tmp_path)
    command = ["nsenter", f"--net={network}", BGPD, "-S", "-Z", "-P", "0", "-l", REFLECTOR, *files]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        yield
        daemon.terminate()


def vpn_of(landscape: Landscape, *networks: str) -> None:
    """Associate networks with a VPN that is the same at all sites."""
    made = landscape.api.expect("network", "POST", "/v2.0/bgpvpn/bgpvpns", {"bgpvpn": {"type": "l3", "route_targets": ["64512:1"]}})
    for network in networks:
        joined = {"network_association": {"network_id": network}}
        landscape.api.expect("network", "POST", f"/v2.0/bgpvpn/bgpvpns/{made['bgpvpn']['id']}/network_associations", joined)


def boot_asking(landscape: Landscape, name: str, target: Guest, network: str) -> Guest:
    """Boot a guest that repeatedly fetches another's page, and prints how often it contains that one's name."""
    page = f"timeout 4 wget -q -O - http://{target.address}/ | grep -c '<h1>{target.name}'"
    return landscape.boot(name, network=network, script=f"{SAYS}while sleep 2; do echo page: $({page}); done\n")


@pytest.mark.long
@pytest.mark.skipif("bgpvpn" not in HERE, reason="networking-bagpipe is not installed")
def test_vpn_joins_networks_that_have_no_router(nice):
    networks = [nice.make_network(f"10.{number}.0.0/24")[0] for number in (8, 9)]
    target = nice.boot("target", network=networks[0])
    client = boot_asking(nice, "member", target, networks[1])
    client.await_console("page: 0")
    vpn_of(nice, *networks)
    client.await_console("page: 1")
    client.delete()
    target.delete()


@pytest.mark.skipif("bgpvpn" not in HERE or not BGPD.exists(), reason="networking-bagpipe or frr is not installed")
def test_vpn_joins_networks_of_two_sites(cloud, nice, lyon, reflector):
    here, there = nice.make_network("10.18.0.0/24")[0], lyon.make_network("10.19.0.0/24")[0]
    vpn_of(nice, here)
    vpn_of(lyon, there)
    target = lyon.boot("far", network=there)
    client = boot_asking(nice, "near", target, here)
    client.await_console("page: 1")

    pid = cloud.pids()["lyon/vswitchd"]
    kill(pid)
    await_ready(cloud, "lyon/vswitchd", pid)
    client.await_console("(?s)page: 1.*page: 0.*page: 1")
    client.delete()
    target.delete()
