"""Pairs of traffic ends without guests, for comparison: namespaces joined by a veth pair, a bridge, or the data plane of a site."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from atoll.bench.failure import failed
from atoll.bench.guests.traffic import AGENT_PORT, End, await_agent
from atoll.services import Settings
from atoll.services.neutron.ovn import layout
from atoll.services.neutron.ovn.offload import send_whole_packets
from atoll.wan.isolation import new_network, within

Pair = tuple[End, End]
"""The sending end and the receiving end."""

_LOOPBACK = "127.0.0.1"
_DEVICE = "eth0"
_ADDRESSES = ("10.91.0.1", "10.91.0.2")
_PREFIX = 24
_START_S = 30.0


@dataclass(frozen=True)
class Port:
    """A port of a Neutron network.

    Attributes:
        id: the port's id.
        mac: the port's MAC address.
        address: the port's IPv4 address.
        mtu: the MTU of the port's network in bytes; the subnet is a /24.
    """

    id: str
    mac: str
    address: str
    mtu: int


@contextmanager
def veth(program: Path) -> Iterator[Pair]:
    """Make two namespaces with a veth pair between them, and yield its ends.

    Args:
        program: the path of the traffic program, from `traffic.compiled`.
    """
    with ExitStack() as stack:
        first, second = (stack.enter_context(_network()) for _ in range(2))
        _lay(first, _DEVICE, second)
        ends = [stack.enter_context(_agent(program, *each)) for each in zip((first, second), _ADDRESSES, strict=True)]
        yield ends[0], ends[1]


@contextmanager
def bridge(program: Path) -> Iterator[Pair]:
    """Make two namespaces, joined by two veth pairs and a Linux bridge in a third one; yield the two ends.

    Args:
        program: the path that `traffic.compiled` returned.
    """
    with ExitStack() as stack:
        middle, *networks = (stack.enter_context(_network()) for _ in range(3))

        def make(ip: IPRoute) -> None:
            ip.link("add", ifname="br0", kind="bridge")
            (index,) = ip.link_lookup(ifname="br0")
            ip.link("set", index=index, state="up")
            for number, network in enumerate(networks):
                ip.link("add", ifname=f"port{number}", kind="veth", peer={"ifname": _DEVICE, "net_ns_fd": network})
                ip.link("set", index=ip.link_lookup(ifname=f"port{number}")[0], master=index, state="up")

        _inside(middle, make)
        ends = [stack.enter_context(_agent(program, *each)) for each in zip(networks, _ADDRESSES, strict=True)]
        yield ends[0], ends[1]


@contextmanager
def plugged(program: Path, settings: Settings, site: int, ports: tuple[Port, Port]) -> Iterator[Pair]:
    """Make two namespaces at ports of a site's network, which is its data plane without guests; yield the two ends.

    Args:
        program: the path that `traffic.compiled` returned.
        settings: the settings of the site.
        site: a descriptor of the site's network namespace.
        ports: the ports to use.
    """
    with ExitStack() as stack:
        ends = []
        for number, port in enumerate(ports):
            network = stack.enter_context(_network())
            _plug(settings, site, f"bench{number}", network, port)
            ends.append(stack.enter_context(_agent(program, network, port.address)))
        yield ends[0], ends[1]


@contextmanager
def client(settings: Settings, site: int, name: str, port: Port) -> Iterator[int]:
    """Make a namespace at a port of a site's network, for a client of the servers in that network; yield its descriptor.

    Args:
        settings: the settings of the site.
        site: a descriptor of the site's network namespace.
        name: the name of the device in that namespace, at most 15 characters.
        port: the port to use.
    """
    with _network() as network:
        _plug(settings, site, name, network, port)
        _inside(network, lambda ip: _address(ip, port.address))
        yield network


@contextmanager
def _network() -> Iterator[int]:
    descriptor = new_network()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _agent(program: Path, network: int, address: str) -> Iterator[End]:
    """Run an agent in a namespace, give its device the address, and yield it as an end."""
    _inside(network, lambda ip: _address(ip, address))
    words = [str(program), "agent", str(AGENT_PORT)]
    process = within(network, lambda: subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True))
    try:
        end = End(network, _LOOPBACK, address)
        await_agent(end, _START_S)
        yield end
    finally:
        os.killpg(process.pid, 9)  # the agent and its children
        process.wait()


def _inside(network: int, work: Callable[[IPRoute], None]) -> None:
    def there() -> None:
        with IPRoute() as ip:
            work(ip)

    within(network, there)


def _lay(network: int, name: str, other: int) -> None:
    _inside(network, lambda ip: ip.link("add", ifname=name, kind="veth", peer={"ifname": _DEVICE, "net_ns_fd": other}))


def _address(ip: IPRoute, address: str) -> None:
    (index,) = ip.link_lookup(ifname=_DEVICE)
    ip.addr("replace", index=index, address=address, prefixlen=_PREFIX)
    for each in (index, *ip.link_lookup(ifname="lo")):
        ip.link("set", index=each, state="up")


def _plug(settings: Settings, site: int, name: str, network: int, port: Port) -> None:
    """Connect a namespace with the site's switch by a veth pair, as the interface of a Neutron port.

    The pair is deleted with the namespace, and its record in the switch's database with the cloud.
    """
    _lay(site, name, network)
    _inside(site, lambda ip: ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up"))
    _inside(network, lambda ip: ip.link("set", index=ip.link_lookup(ifname=_DEVICE)[0], address=port.mac, mtu=port.mtu))
    if settings.datapath == "netdev":
        within(network, lambda: send_whole_packets(_DEVICE))
    identity = [f"external_ids:iface-id={port.id}", f"external_ids:attached-mac={port.mac}"]
    _ovs_vsctl(settings, "add-port", layout.INTEGRATION_BRIDGE, name, "--", "set", "Interface", name, *identity)


def _ovs_vsctl(settings: Settings, *words: str) -> None:
    command = ["ovs-vsctl", "--timeout=20", f"--db={layout.database(settings)}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise failed(f"ovs-vsctl {words[0]}: {done.stderr.strip()[-300:]}")
