"""The effect of Neutron's service plug-ins on packets, with network namespaces as hosts."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from deployment import Deployment, kill, until
from landscape import Landscape
from plugged import GET, Host, Switch, plug, run

from atoll.bench.api import Api
from atoll.services.neutron.network_services import obstacles

WANTED = {"paris": ["firewall", "tap", "bgp", "log", "vpn", "load-balancer"], "nice": ["vpn"]}
MISSING = dict(obstacles(WANTED["paris"], "ovn"))
BGPD = Path("/usr/lib/frr/bgpd")


def needs(service: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(service in MISSING, reason=MISSING[service].text if service in MISSING else "")


@pytest.fixture(scope="module", autouse=True)
def serviced(cloud, paris, nice) -> Deployment:
    """Enable network services at the existing sites of the cloud."""
    sites = [
        {"name": name, "compute": "libvirt", "network_services": [each for each in wanted if each not in MISSING]}
        for name, wanted in WANTED.items()
    ]
    cloud.atoll("up", cloud.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
    return cloud


@pytest.fixture(scope="module")
def switch(serviced) -> Switch:
    return Switch(serviced, "paris")


@pytest.fixture(scope="module")
def other_network(paris) -> tuple[str, str]:
    """Create a second network at the router, and return its id and that of the router's port on it."""
    network, subnet = paris.make_network("10.6.0.0/24")
    made = paris.api.expect("network", "PUT", f"/v2.0/routers/{paris.router}/add_router_interface", {"subnet_id": subnet})
    return network, made["port_id"]


@pytest.fixture(scope="module")
def hosts(paris, switch, other_network, tmp_path_factory) -> Iterator[tuple[Host, Host]]:
    """Plug one host into each of two networks; the second serves pages on ports 80 and 8080."""
    with ExitStack() as stack:
        here = stack.enter_context(plug(paris, switch, "here"))
        there = stack.enter_context(plug(paris, switch, "there", other_network[0]))
        for port in (80, 8080):
            there.serve(port, tmp_path_factory.mktemp("pages") / "there")
            until(lambda port=port: here.gets(there.address, port) == "there", f"port {port}", 60)
        yield here, there


@pytest.fixture
def collector(switch) -> Iterator[Host]:
    """Plug a host into the external network."""
    with Host(switch, "collector", "10.77.0.253/25") as host:
        yield host


def make(landscape: Landscape, path: str, **fields: Any) -> str:
    """Create a resource of a plug-in and return its id."""
    kind = path.rpartition("/")[2].replace("-", "_").removesuffix("s").replace("policie", "policy")
    return str(landscape.api.expect("network", "POST", f"/v2.0{path}", {kind: fields})[kind]["id"])


def change(landscape: Landscape, path: str, kind: str, **fields: Any) -> None:
    landscape.api.expect("network", "PUT", f"/v2.0{path}", {kind: fields})


def delete(landscape: Landscape, *paths: str) -> None:
    for path in paths:
        landscape.api.expect("network", "DELETE", f"/v2.0{path}")


@needs("firewall")
def test_firewall_of_a_routers_port_opens_and_closes(paris, hosts, other_network):
    here, there = hosts
    rules = [
        make(paris, "/fwaas/firewall_rules", protocol="tcp", action="allow", **{side: "80"}) for side in ("destination_port", "source_port")
    ]
    policy = make(paris, "/fwaas/firewall_policies", name="web", firewall_rules=rules)
    both = {"ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
    group = make(paris, "/fwaas/firewall_groups", name="web", ports=[other_network[1]], **both)
    until(lambda: not here.gets(there.address, 8080), "port 8080 closed", 30)
    assert here.gets(there.address, 80) == "there"
    change(paris, f"/fwaas/firewall_rules/{rules[0]}", "firewall_rule", action="deny")
    until(lambda: not here.gets(there.address, 80), "port 80 closed", 30)
    change(paris, f"/fwaas/firewall_groups/{group}", "firewall_group", ports=[])
    for port in (80, 8080):
        until(lambda port=port: here.gets(there.address, port) == "there", f"port {port} open again", 30)
    delete(
        paris, f"/fwaas/firewall_groups/{group}", f"/fwaas/firewall_policies/{policy}", *(f"/fwaas/firewall_rules/{rule}" for rule in rules)
    )


WHISPER = """
import socket, sys, time
while True:
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"a whisper", (sys.argv[1], 9))
    time.sleep(0.1)
"""

CAPTURE = """
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
raw.settimeout(20)
print("listening", flush=True)
while True:
    data = raw.recv(4000)[20:]
    flags, kind = struct.unpack("!HH", data[:4])
    if flags & 0x2000 and sys.argv[1].encode() in data:
        print(struct.unpack("!I", data[4:8])[0])
        break
"""
"""A program that prints the key of the first GRE packet that contains a text."""


@needs("tap")
def test_mirror_of_a_port_leaves_for_the_collector(paris, switch, hosts, collector):
    here, there = hosts
    fields = {"port_id": here.port, "remote_ip": collector.address, "mirror_type": "gre", "directions": {"OUT": "101"}}
    mirror = make(paris, "/taas/tap_mirrors", name="mirror", **fields)
    until(lambda: "tm_out" in switch.tool("ovs-vsctl", "list", "Mirror"), "the mirror", 30)
    whisper = here.start(sys.executable, "-c", WHISPER, there.address)
    assert collector.run(sys.executable, "-c", CAPTURE, "a whisper").stdout.split() == ["listening", "101"]
    whisper.terminate()
    delete(paris, f"/taas/tap_mirrors/{mirror}")
    until(lambda: "tm_out" not in switch.tool("ovs-vsctl", "list", "Mirror"), "no mirror", 30)


SEND = """
import socket, sys, time
client = socket.create_connection((sys.argv[1], 7000), 5)
end = time.monotonic() + 4
while time.monotonic() < end:
    client.sendall(bytes(16384))
"""

RECEIVE = """
import socket, time
server = socket.create_server(("", 7000))
while True:
    client, _ = server.accept()
    begun, size = time.monotonic(), 0
    while data := client.recv(1 << 20):
        size += len(data)
    open("/proc/self/fd/1", "w").write(f"{size * 8 / (time.monotonic() - begun) / 1e6}\\n")
"""


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_bandwidth_of_a_port_is_limited(paris, switch, hosts, direction, tmp_path):
    here, there = hosts
    sender, receiver = (here, there) if direction == "egress" else (there, here)
    policy = make(paris, "/qos/policies", name=f"slow-{direction}")
    rule = {"max_kbps": 5000, "max_burst_kbps": 4000, "direction": direction}
    paris.api.expect("network", "POST", f"/v2.0/qos/policies/{policy}/bandwidth_limit_rules", {"bandwidth_limit_rule": rule})
    change(paris, f"/ports/{here.port}", "port", qos_policy_id=policy)
    server = tmp_path / "server.py"
    server.write_text(RECEIVE.replace('open("/proc/self/fd/1", "w")', f'open({str(tmp_path / "speed")!r}, "a")'))
    process = receiver.start(sys.executable, server)
    until(lambda: sender.run(sys.executable, "-c", SEND, receiver.address, check=False).returncode == 0, "a transfer", 60)
    speed = until(lambda: (tmp_path / "speed").exists() and (tmp_path / "speed").read_text().split(), "its end", 30)
    process.terminate()
    assert 1 < float(speed[-1]) < 10, "expected about 5 Mbit/s"
    change(paris, f"/ports/{here.port}", "port", qos_policy_id=None)
    delete(paris, f"/qos/policies/{policy}")


def test_trunk_carries_a_second_network(paris, hosts, other_network):
    here, there = hosts
    port = paris.neutron("port", network_id=other_network[0], security_groups=[paris.group])
    shown = paris.api.expect("network", "GET", f"/v2.0/ports/{port}")["port"]
    tagged = [{"port_id": port, "segmentation_type": "vlan", "segmentation_id": 100}]
    trunk = make(paris, "/trunks", port_id=here.port, sub_ports=tagged)
    ping = [sys.executable, Path(__file__).with_name("vlan_ping.py"), here.device, "100", shown["mac_address"]]
    ping += [shown["fixed_ips"][0]["ip_address"], there.address]
    until(lambda: here.run(*ping, check=False).returncode == 0, "an answer with the tag", 40)
    assert here.gets(there.address) == "there"
    paris.api.expect("network", "PUT", f"/v2.0/trunks/{trunk}/remove_subports", {"sub_ports": [{"port_id": port}]})
    until(lambda: here.run(*ping, check=False).returncode != 0, "no answer", 40)
    delete(paris, f"/trunks/{trunk}", f"/ports/{port}")


@needs("log")
def test_dropped_packets_are_logged(paris, serviced, switch, hosts):
    here, _there = hosts
    group = paris.neutron("security_group", name="logged")
    log = make(paris, "/log/logs", name="l", resource_type="security_group", event="DROP", resource_id=group, enabled=True)
    paris_group, paris.group = paris.group, group
    with plug(paris, switch, "shut") as shut:
        paris.group = paris_group

        def knocked() -> bool:
            assert not here.gets(shut.address)
            text = (serviced.settings().directory / "log" / "ovn-controller.log").read_text()
            return any("verdict=drop" in line and f"nw_dst={shut.address}," in line for line in text.splitlines())

        until(knocked, "a line", 40)
    delete(paris, f"/log/logs/{log}", f"/ports/{shut.port}", f"/security-groups/{group}")


BGP = """
router bgp 65001
 bgp router-id {own}
 no bgp ebgp-requires-policy
 neighbor {site} remote-as 65000
 neighbor {site} passive
"""


@needs("bgp")
@pytest.mark.skipif(not BGPD.exists(), reason="not installed: frr")
def test_floating_ips_are_announced_and_withdrawn(paris, serviced, hosts, collector, tmp_path):
    here, _there = hosts
    directory = tmp_path / "frr"
    directory.mkdir()
    tmp_path.chmod(0o755)
    (directory / "bgpd.conf").write_text(BGP.format(own=collector.address, site="10.77.0.129"))
    run("chown", "-R", "frr", directory)
    collector.start(BGPD, "-f", directory / "bgpd.conf", "-i", directory / "pid", "--vty_socket", directory, "-Z", "-P", "0", "-S")

    def shown(what: str) -> dict[str, Any]:
        done = run("vtysh", "--vty_socket", directory, "-d", "bgpd", "-c", f"show bgp ipv4 unicast{what} json", check=False)
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else {}

    def routes() -> set[str]:
        return set(shown("").get("routes", {}))

    def sessions() -> int:
        return sum(each["connectionsEstablished"] for each in shown(" summary").get("peers", {}).values())

    speaker = make(paris, "/bgp-speakers", name="site", local_as=65000, ip_version=4)
    peer = make(paris, "/bgp-peers", name="peer", peer_ip=collector.address, remote_as=65001, auth_type="none")
    for verb, what in (("add_gateway_network", {"network_id": paris.outside}), ("add_bgp_peer", {"bgp_peer_id": peer})):
        paris.api.expect("network", "PUT", f"/v2.0/bgp-speakers/{speaker}/{verb}", what)
    floating, address = paris.floating_ip()
    change(paris, f"/floatingips/{floating}", "floatingip", port_id=here.port)
    until(lambda: f"{address}/32" in routes(), "the route", 60)
    before = sessions()
    kill(serviced.pids()["paris/bgp-agent"])
    until(lambda: sessions() > before and f"{address}/32" in routes(), "the route again, from a new agent", 90)
    change(paris, f"/floatingips/{floating}", "floatingip", port_id=None)
    until(lambda: not routes(), "no route", 60)
    delete(paris, f"/floatingips/{floating}", f"/bgp-speakers/{speaker}", f"/bgp-peers/{peer}")


def connection(landscape: Landscape, service: str, peer: str, cidr: str) -> list[str]:
    """Create a VPN connection, and return the paths to delete in the end, in order."""
    policies = {"auth_algorithm": "sha256", "encryption_algorithm": "aes-256", "pfs": "group14"}
    ike = make(landscape, "/vpn/ikepolicies", name="ike", ike_version="v2", **policies)
    ipsec = make(landscape, "/vpn/ipsecpolicies", name="ipsec", **policies)
    ends = {"peer_address": peer, "peer_id": peer, "peer_cidrs": [cidr], "psk": "only for this test"}
    named = {"vpnservice_id": service, "ikepolicy_id": ike, "ipsecpolicy_id": ipsec}
    made = make(landscape, "/vpn/ipsec-site-connections", name="to-the-other", **named, **ends)
    return [f"/vpn/ipsec-site-connections/{made}", f"/vpn/vpnservices/{service}", f"/vpn/ikepolicies/{ike}", f"/vpn/ipsecpolicies/{ipsec}"]


@needs("vpn")
def test_two_sites_are_joined_by_an_encrypted_tunnel(paris, nice, serviced, hosts, tmp_path):
    here, _there = hosts
    switch, ends = Switch(serviced, "paris"), {}
    for landscape in (paris, nice):
        service = make(landscape, "/vpn/vpnservices", name=f"vpn-{landscape.site}", router_id=landscape.router, subnet_id=landscape.subnet)
        shown = landscape.api.expect("network", "GET", f"/v2.0/vpn/vpnservices/{service}")["vpnservice"]
        ends[landscape.site] = service, shown["external_v4_ip"]
    made = {
        paris: connection(paris, ends["paris"][0], ends["nice"][1], "10.1.0.0/24"),
        nice: connection(nice, ends["nice"][0], ends["paris"][1], "10.0.0.0/24"),
    }
    with plug(nice, Switch(serviced, "nice"), "far") as far:
        far.serve(80, tmp_path / "far")
        until(lambda: here.gets(far.address) == "far", "the other site's page", 120)
        kill(serviced.pids()["paris/vpn-agent"])
        until(lambda: here.gets(far.address) == "far", "the same with a new agent", 120)
        whisper = here.start(sys.executable, "-c", WHISPER, far.address)
        sniffed = json.loads(switch.inside(sys.executable, "-c", SNIFF).stdout)
        whisper.terminate()
    assert {tuple(each) for each in sniffed} - {(17, 500)} == {(17, 4500)}, "expected IKE packets, and ESP packets in UDP"
    for landscape, paths in made.items():
        delete(landscape, *paths)


SNIFF = """
import json, socket, struct
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
raw.bind(("wan0", 0))
raw.settimeout(120)
found, tunnelled = set(), 0
while tunnelled < 20:
    data = raw.recv(4000)
    # What is between the two external networks; the sites themselves have other addresses.
    if len(data) > 24 and data[15] > 128 and data[19] > 128:
        kind = data[9], struct.unpack("!H", data[22:24])[0]
        found.add(kind)
        tunnelled += kind == (17, 4500)
print(json.dumps(sorted(found)))
"""


class Balancer:
    """A load balancer, each change of which must be complete before the next one."""

    def __init__(self, api: Api, **fields: Any) -> None:
        self._api = api
        self.fields = self._make("loadbalancers", "loadbalancer", **fields)
        self._await()

    def _make(self, path: str, kind: str, **fields: Any) -> dict[str, Any]:
        return dict(self._api.expect("load-balancer", "POST", f"/v2/lbaas/{path}", {kind: fields})[kind])

    def _await(self) -> None:
        def status() -> str:
            shown = self._api.expect("load-balancer", "GET", f"/v2/lbaas/loadbalancers/{self.fields['id']}")["loadbalancer"]
            assert shown["provisioning_status"] != "ERROR"
            return str(shown["provisioning_status"])

        until(lambda: status() == "ACTIVE", "the load balancer", 60)

    def add(self, path: str, kind: str, **fields: Any) -> str:
        made = self._make(path, kind, **fields)
        self._await()
        return str(made["id"])

    def members(self, pool: str) -> dict[str, str]:
        shown = self._api.expect("load-balancer", "GET", f"/v2/lbaas/pools/{pool}/members")["members"]
        return {member["address"]: member["operating_status"] for member in shown}

    def delete(self) -> None:
        path = f"/v2/lbaas/loadbalancers/{self.fields['id']}"
        self._api.expect("load-balancer", "DELETE", f"{path}?cascade=true")
        until(lambda: self._api.call("load-balancer", "GET", path).status == 404, "no load balancer", 60)


@needs("load-balancer")
def test_load_is_balanced_and_a_member_that_fails_gets_none(paris, serviced, hosts, other_network, tmp_path):
    (here, there), switch = hosts, Switch(serviced, "paris")
    shown = paris.api.expect("network", "GET", f"/v2.0/ports/{there.port}")["port"]
    subnet = shown["fixed_ips"][0]["subnet_id"]
    with plug(paris, switch, "second", other_network[0]) as second:
        second.serve(80, tmp_path / "second")
        balancer = Balancer(serviced.api_inside("paris"), name="lb", vip_subnet_id=subnet)
        listener = balancer.add("listeners", "listener", protocol="TCP", protocol_port=8000, loadbalancer_id=balancer.fields["id"])
        algorithm = {"protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT"}
        pool = balancer.add("pools", "pool", listener_id=listener, **algorithm)
        for host in (there, second):
            balancer.add(f"pools/{pool}/members", "member", address=host.address, protocol_port=80, subnet_id=subnet)
        check = {"delay": 2, "timeout": 1, "max_retries": 2, "max_retries_down": 2}
        balancer.add("healthmonitors", "healthmonitor", pool_id=pool, type="TCP", **check)
        address = balancer.fields["vip_address"]
        until(lambda: {here.gets(address, 8000) for _ in range(8)} >= {"there", "second"}, "both members", 60)
        until(lambda: set(balancer.members(pool).values()) == {"ONLINE"}, "both are well", 60)
        floating, outside = paris.floating_ip()
        change(paris, f"/floatingips/{floating}", "floatingip", port_id=balancer.fields["vip_port_id"])
        ask = [sys.executable, "-c", GET, f"http://{outside}:8000/"]
        until(lambda: switch.inside(*ask, check=False).returncode == 0, "an answer to the outside", 60)
        second.stop()
        until(lambda: balancer.members(pool)[second.address] == "ERROR", "a member that fails", 60)
        until(lambda: {here.gets(address, 8000) for _ in range(8)} == {"there"}, "the other one alone", 60)
        delete(paris, f"/floatingips/{floating}")
        balancer.delete()


def test_impossible_network_services_are_refused(serviced):
    before = serviced.pids()
    sites = [{"name": "paris", "compute": "libvirt", "network": "ovn", "network_services": ["sfc"]}, {"name": "nice", "compute": "libvirt"}]
    told = serviced.refused("up", serviced.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
    assert told.endswith("sfc does not work with `network: ovn`: expected `network: ovs`, or no `sfc`")
    assert serviced.pids() == before
