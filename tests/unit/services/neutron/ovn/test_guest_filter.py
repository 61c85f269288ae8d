"""The filter between guests and sites, with real packets through a real kernel: guests reach the public port and nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from atoll.services.neutron.ovn import guest_filter
from atoll.wan.isolation import within

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces and filter"),
    pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="not installed: iptables"),
]

ECHO = """
import socket, sys, threading
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
server = socket.socket(family, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    server.listen()
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        server.accept()[0].sendall(b"hello")
    else:
        server.sendto(b"hello", server.recvfrom(100)[1])
"""

ASK = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
client = socket.socket(family, kind)
client.settimeout(0.5)
client.connect((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_DGRAM:
    client.send(b"x")
assert client.recv(5) == b"hello"
"""

PING = """
import socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.settimeout(1)
raw.sendto(bytes.fromhex("0800f7ff00000000"), (sys.argv[1], 0))
while raw.recv(100)[20] != 0:
    pass
"""
"""A program that sends an echo request and waits for its reply (RFC 792)."""


class Place:
    """A network namespace with a process that keeps it."""

    def __init__(self) -> None:
        # Its output shows that it runs.
        self._process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.pid = self._process.pid
        self._servers: list[subprocess.Popen[bytes]] = []
        self.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        for process in (*self._servers, self._process):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _inside(self, words: tuple[object, ...]) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", *map(str, words)]

    def run(self, *words: object, check: bool = True) -> bool:
        return subprocess.run(self._inside(words), check=check, capture_output=True, timeout=30).returncode == 0

    def serve(self, protocol: str, address: str, port: int) -> None:
        server = subprocess.Popen(self._inside((sys.executable, "-c", ECHO, protocol, address, port)), stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        self._servers.append(server)

    def reaches(self, protocol: str, address: str, port: int) -> bool:
        return self.run(sys.executable, "-c", ASK, protocol, address, port, check=False)

    def filter(self, work) -> None:
        namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            within(namespace, work)
        finally:
            os.close(namespace)


@pytest.fixture
def places() -> Iterator[tuple[Place, Place, Place]]:
    """A guest on the external network, its site, and another site behind it."""
    with ExitStack() as stack:
        guest, site, other = made = (Place(), Place(), Place())
        for place in made:
            stack.callback(place.close)
        for near, device, far, peer in ((site, "br-ex", guest, "eth0"), (site, "wan0", other, "wan0")):
            near.run("ip", "link", "add", device, "type", "veth", "peer", "name", peer, "netns", far.pid)
        for place, device, *addresses in (
            (guest, "eth0", "10.77.0.200/25", "fd00::2/64"),
            (site, "br-ex", "10.77.0.129/25", "fd00::1/64"),
            (site, "wan0", "10.77.0.1/32"),
            (other, "wan0", "10.77.1.1/32", "10.77.1.129/32"),
        ):
            place.run("ip", "link", "set", device, "up")
            for address in addresses:
                place.run("ip", "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        guest.run("ip", "route", "add", "default", "via", "10.77.0.129")
        site.run("ip", "route", "add", "10.77.1.0/24", "dev", "wan0")
        other.run("ip", "route", "add", "default", "via", "10.77.0.1", "dev", "wan0", "onlink")
        site.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        yield made


@pytest.fixture
def coast(settings):
    return replace(settings, host="10.77.0.1", outside="10.77.0.129/25", forwards=True, ports={**settings.ports, "gateway": 8080})


OPEN = [("tcp", address, 8080) for address in ("10.77.0.1", "10.77.0.129", "10.77.1.1")]
CLOSED = [
    *(("tcp", address, port) for address in ("10.77.0.1", "10.77.0.129", "10.77.1.1") for port in (8443, 7447, 5000)),
    *(("udp", address, 53) for address in ("10.77.0.129", "10.77.1.1")),
    ("tcp", "fd00::1", 5000),
]


def test_guest_reaches_the_public_ports_alone(places, coast):
    guest, site, other = places
    for protocol, address, port in (*OPEN, *CLOSED):
        (other if address == "10.77.1.1" else site).serve(protocol, address, port)
    assert [each for each in (*OPEN, *CLOSED) if not guest.reaches(*each)] == [], "without the filter, all ports must be reachable"
    site.filter(lambda: guest_filter.install(coast))
    assert [each for each in OPEN if not guest.reaches(*each)] == []
    assert [each for each in CLOSED if guest.reaches(*each)] == []


def test_allowed_traffic_of_guests_passes(places, coast):
    """Guests reach other guests by their floating IPs; the site reaches its guests and itself."""
    guest, site, other = places
    site.filter(lambda: guest_filter.install(coast))
    other.serve("tcp", "10.77.1.129", 22)
    guest.serve("tcp", "10.77.0.200", 80)
    site.serve("tcp", "10.77.0.129", 5000)
    assert guest.reaches("tcp", "10.77.1.129", 22)
    assert site.reaches("tcp", "10.77.0.200", 80)
    assert other.reaches("tcp", "10.77.0.200", 80)
    assert site.reaches("tcp", "10.77.0.129", 5000)
    assert guest.run(sys.executable, "-c", PING, "10.77.0.129", check=False)


def test_the_filter_is_replaced_and_removed_as_a_whole(places, coast):
    _guest, site, _other = places

    def rules() -> str:
        listed = [subprocess.run([tool, "-S"], check=True, capture_output=True, text=True).stdout for tool in guest_filter.TOOLS]
        return "".join(listed)

    seen: list[str] = []

    def work() -> None:
        seen.append(rules())
        for _ in range(2):
            guest_filter.install(coast)
            seen.append(rules())
        guest_filter.remove(coast)
        guest_filter.remove(coast)
        seen.append(rules())

    site.filter(work)
    before, once, twice, after = seen
    assert before == after
    assert once == twice != before


def test_a_site_in_the_machines_own_network_forwards_nothing(coast):
    jumps = guest_filter._jumps(replace(coast, forwards=False), "iptables")
    assert [jump for jump in jumps if jump[0] == "FORWARD" and guest_filter.CHAIN in jump] == []


@pytest.mark.parametrize("device", ["tap1234", "qbr1234", "qvb1234", "qvo1234"])
def test_the_kernel_takes_nothing_from_the_interface_of_a_guest(places, coast, device):
    """A guest may address packets to its interface's hardware address, and so bypass a switch in user space."""
    guest, site, _other = places
    site.run("ip", "link", "set", "br-ex", "down")
    site.run("ip", "link", "set", "br-ex", "name", device)
    site.run("ip", "link", "set", device, "up")
    site.serve("tcp", "10.77.0.1", 8080)
    assert guest.reaches("tcp", "10.77.0.1", 8080), "without the filter, the port must be reachable"
    site.filter(lambda: guest_filter.install(coast))
    assert not guest.reaches("tcp", "10.77.0.1", 8080)
