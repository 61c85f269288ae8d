"""The kernel emulator: a veth pair for each link, netem at both its ends, and routes through the nodes between."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pyroute2 import IPRoute

from atoll.cloud.network import Ends, Node, Wire
from atoll.wan import netem
from atoll.wan.addresses import Addresses
from atoll.wan.datapath import Counters
from atoll.wan.isolation import new_network, set_sysctl, within
from atoll.wan.userspace import open_ports

_LOOPBACK = 1
_HEADER = 14  # bytes of the Ethernet header, which the kernel counts
_ONLINK = 4  # RTNH_F_ONLINK: the neighbour can be reached directly, although no prefix of the device contains its address

T = TypeVar("T")


class KernelEmulator:
    """The `Emulator` that uses netem. Routers have network namespaces too, in which the kernel forwards.

    Args:
        addresses: the addresses of the nodes.
        shape: whether to use netem. False is for tests on kernels without netem: links then have no delay, rate or loss.
    """

    name = "netem"

    def __init__(self, addresses: Addresses, *, shape: bool = True) -> None:
        self._addresses = addresses
        self._shape = shape
        self._networks: dict[str, int] = {}
        self._up: dict[Ends, bool] = {}
        self._before: dict[Ends, Counters] = {}
        self._routes: dict[Ends, str] = {}

    def add(self, node: Node) -> None:
        """Create the node's namespace, with its address on the loopback device, as routers often have it."""
        self._networks[node.name] = new_network()
        address = str(self._addresses.of(node.name))

        def prepare(ip: IPRoute) -> None:
            set_sysctl("net/ipv4/ip_forward", "1")
            set_sysctl("net/ipv4/conf/all/rp_filter", "0")  # packets may return on another path than they came
            set_sysctl("net/ipv4/conf/default/rp_filter", "0")
            set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
            open_ports()
            ip.link("set", index=_LOOPBACK, state="up")
            ip.addr("add", index=_LOOPBACK, address=address, prefixlen=32)

        self._inside(node.name, prepare)

    def remove(self, name: str) -> None:
        """Close the node's namespace, whose links have been removed."""
        os.close(self._networks.pop(name))

    def wire(self, ends: Ends, wire: Wire, *, up: bool) -> None:
        """Configure netem for one direction of a link, and create the link's veth pair if the other direction does not exist yet."""
        if ends not in self._up and ends[::-1] not in self._up:
            self._lay(ends)
        was_up = self._up.get(ends, True)
        self._up[ends] = up
        if not self._shape:
            return

        def shape(ip: IPRoute, index: int) -> None:
            if was_up and not up:
                ip.tc("del", index=index)  # drops the packets in transit
            netem.replace(index, wire, up=up)

        if was_up and not up:
            self._before[ends] = self._count(ends)
        self._at(ends, shape)

    def unwire(self, ends: Ends) -> None:
        """Remove one direction, and the link's veth pair if the other direction has been removed already."""
        del self._up[ends]
        self._before.pop(ends, None)
        if ends[::-1] not in self._up:
            self._at(ends, lambda ip, index: ip.link("del", index=index))
            self._routes = {key: hop for key, hop in self._routes.items() if (key[0], hop) not in (ends, ends[::-1])}

    def route(self, hops: Mapping[Ends, str]) -> None:
        """Replace all routes: send the kernel only those that have changed."""
        names = {node for node, _to in (*hops, *self._routes) if node in self._networks}
        for name in sorted(names):
            wanted = {to: hop for (node, to), hop in hops.items() if node == name}
            had = {to: hop for (node, to), hop in self._routes.items() if node == name}
            if wanted != had:
                self._inside(name, partial(self._reroute, name=name, wanted=wanted, had=had))
        self._routes = dict(hops)

    def network(self, name: str) -> int | None:
        """Return the descriptor of a site's or router's namespace."""
        return self._networks.get(name)

    def counters(self) -> dict[Ends, Counters]:
        """Return the kernel's counters, which do not separate random loss from a full queue."""
        return {ends: self._count(ends) for ends in self._up}

    def _count(self, ends: Ends) -> Counters:
        def read(ip: IPRoute, index: int) -> Counters:
            found = [item for item in ip.get_qdiscs(index=index) if item.get_attr("TCA_KIND") == "netem"]
            if not found:
                return Counters()
            stats = found[0].get_attr("TCA_STATS2")
            basic, queue = stats.get_attr("TCA_STATS_BASIC"), stats.get_attr("TCA_STATS_QUEUE")
            return from_statistics(basic["bytes"], basic["packets"], queue["drops"], queue["qlen"], up=self._up[ends])

        now, before = self._at(ends, read), self._before.get(ends, Counters())
        return Counters(**{name: getattr(now, name) + getattr(before, name) for name in Counters.__dataclass_fields__})

    def check(self) -> None:
        """Do nothing, because the kernel does not stop moving packets."""

    def close(self) -> None:
        """Close the namespaces, and with them their devices."""
        for descriptor in self._networks.values():
            os.close(descriptor)
        self._networks, self._up, self._routes = {}, {}, {}

    def _device(self, neighbour: str) -> str:
        return f"wan{self._addresses.numbers[neighbour]}"

    def _lay(self, ends: Ends) -> None:
        start, end = ends

        def make(ip: IPRoute) -> None:
            peer = {"ifname": self._device(start), "net_ns_fd": self._networks[end]}
            ip.link("add", ifname=self._device(end), kind="veth", peer=peer)

        self._inside(start, make)
        for name, neighbour in (ends, ends[::-1]):
            # Switch segmentation offload off, so that each packet has one segment: otherwise netem would delay or lose 64 kB at once.
            self._at((name, neighbour), lambda ip, index: ip.link("set", index=index, gso_max_segs=1, state="up"))

    def _reroute(self, ip: IPRoute, name: str, wanted: Mapping[str, str], had: Mapping[str, str]) -> None:
        for to in had.keys() - wanted.keys():
            if to in self._addresses.numbers:
                ip.route("del", dst=self._prefix(to))
        for to, hop in wanted.items():
            if had.get(to) != hop:
                index = ip.link_lookup(ifname=self._device(hop))[0]
                own, gateway = str(self._addresses.of(name)), str(self._addresses.of(hop))
                ip.route("replace", dst=self._prefix(to), oif=index, gateway=gateway, prefsrc=own, flags=_ONLINK)

    def _prefix(self, name: str) -> str:
        return f"{self._addresses.of(name) - 1}/24"

    def _inside(self, name: str, work: Callable[[IPRoute], T]) -> T:
        def there() -> T:
            with IPRoute() as ip:
                return work(ip)

        return within(self._networks[name], there)

    def _at(self, ends: Ends, work: Callable[[IPRoute, int], T]) -> T:
        return self._inside(ends[0], lambda ip: work(ip, ip.link_lookup(ifname=self._device(ends[1]))[0]))


def from_statistics(octets: int, packets: int, drops: int, waiting: int, *, up: bool) -> Counters:
    """Convert the kernel's statistics of one queue to counters.

    Args:
        octets: bytes sent, with Ethernet headers.
        packets: packets sent.
        drops: packets lost, or dropped because of a full queue or a cut.
        waiting: packets in the queue and in transit.
        up: whether the link is up; if it is cut, every drop is counted as `cut`.
    """
    delivered = octets - _HEADER * packets
    counted = Counters(packets_in=packets + drops + waiting, bytes_in=delivered, packets_out=packets, bytes_out=delivered)
    return replace(counted, lost=drops) if up else replace(counted, cut=drops)
