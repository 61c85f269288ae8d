"""The userspace emulator: one TUN device in each site's network, and a loop that moves packets between them."""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from itertools import count

from pyroute2 import IPRoute

from atoll.cloud.network import Ends, Node, Wire
from atoll.errors import AtollError
from atoll.namespaces import CLONE_NEWNET, unshare
from atoll.wan.addresses import Addresses
from atoll.wan.datapath import MTU, Counters, Datapath
from atoll.wan.emulator import DEVICE
from atoll.wan.isolation import in_throwaway_thread, new_network, set_sysctl, within

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_TUN = "/dev/net/tun"

QUEUE_PACKETS = 10_000
"""Greatest number of packets that a device holds for the emulator, so that no packet is lost while the emulator waits for a processor."""


class UserspaceEmulator:
    """The `Emulator` that moves packets itself, for kernels without netem.

    Args:
        addresses: the addresses of the nodes.
        seed: seed of the random numbers for loss and jitter; random if `None`.

    Raises:
        AtollError: `wan.unavailable`: TUN devices can't be created, or the emulator was not compiled.
    """

    name = "userspace"

    def __init__(self, addresses: Addresses, seed: int | None = None) -> None:
        check()
        self._addresses = addresses
        self._datapath = Datapath(addresses.network, secrets.randbits(64) if seed is None else seed)
        self._networks: dict[str, int] = {}
        self._devices: dict[str, int] = {}
        self._numbers: dict[Ends, int] = {}
        self._routes: dict[tuple[int, int], int] = {}
        self._datapath.start()

    def add(self, node: Node) -> None:
        """Create a site's namespace and device. A router needs neither, because the loop forwards its packets."""
        if not node.site:
            return
        network = self._networks[node.name] = new_network()
        address, whole = str(self._addresses.of(node.name)), str(self._addresses.network)
        device = self._devices[node.name] = within(network, lambda: _plug(address, whole))
        self._datapath.attach(self._addresses.numbers[node.name], device)

    def remove(self, name: str) -> None:
        """Close a site's device and namespace; the kernel removes the namespace when its last user has ended."""
        if name in self._devices:
            self._datapath.attach(self._addresses.numbers[name], None)
            os.close(self._devices.pop(name))
            os.close(self._networks.pop(name))

    def wire(self, ends: Ends, wire: Wire, *, up: bool) -> None:
        """Set the wire in the data path; a new wire gets a number that no other wire has."""
        if ends not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[ends] = next(number for number in count() if number not in taken)
        self._datapath.wire(self._numbers[ends], self._addresses.numbers[ends[1]], wire, up=up)

    def unwire(self, ends: Ends) -> None:
        """Remove the wire; packets in transit are lost."""
        self._datapath.wire(self._numbers.pop(ends), -1, Wire(), up=False)

    def route(self, hops: Mapping[Ends, str]) -> None:
        """Set the routes that have changed in the loop."""
        numbers = self._addresses.numbers
        routes = {(numbers[node], numbers[to]): self._numbers[node, hop] for (node, to), hop in hops.items()}
        for node, to in self._routes.keys() - routes.keys():
            self._datapath.route(node, to, None)
        for (node, to), number in routes.items():
            if self._routes.get((node, to)) != number:
                self._datapath.route(node, to, number)
        self._routes = routes

    def network(self, name: str) -> int | None:
        """Return the descriptor of a site's namespace; `None` for a router."""
        return self._networks.get(name)

    def counters(self) -> dict[Ends, Counters]:
        """Return the counters of the loop."""
        counted = self._datapath.counters(max(self._numbers.values(), default=-1) + 1)
        return {ends: counted[number] for ends, number in self._numbers.items()}

    def check(self) -> None:
        """Raise the error with which the loop has ended; do nothing while it runs."""
        if self._datapath.failure is not None:
            raise self._datapath.failure

    def close(self) -> None:
        """Stop the loop, then close its devices and the namespaces."""
        self._datapath.stop()
        for descriptor in (*self._devices.values(), *self._networks.values()):
            os.close(descriptor)
        self._devices, self._networks = {}, {}


def check() -> None:
    """Check that TUN devices can be created, by creating one in a temporary network namespace.

    Raises:
        AtollError: `wan.unavailable`: /dev/net/tun does not exist, this user may not open it, or it is another device.
    """

    def ask() -> None:
        unshare(CLONE_NEWNET)
        os.close(_open_device())

    try:
        in_throwaway_thread(ask)
    except OSError as error:
        text = f"{_TUN} can't be used: {error.strerror}"
        hint = "the userspace emulator needs it: `modprobe tun`, and `chmod 666 /dev/net/tun` as most distributions have it"
        raise AtollError("wan.unavailable", text, hint) from error


def _open_device() -> int:
    """Return the descriptor of a new TUN device in the network of the calling thread; the device exists while the descriptor is open.

    Raises:
        OSError: see `check`.
    """
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device


def _plug(address: str, whole: str) -> int:
    """Create the device of a site in the network of the calling thread, with its address and the route to all other sites."""
    device = _open_device()
    set_sysctl(f"net/ipv6/conf/{DEVICE}/disable_ipv6", "1")  # IPv6 would send router solicitations
    open_ports()
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        index = ip.link_lookup(ifname=DEVICE)[0]
        ip.link("set", index=index, mtu=MTU, txqlen=QUEUE_PACKETS, state="up")
        ip.addr("add", index=index, address=address, prefixlen=32)
        ip.route("add", dst=whole, oif=index, prefsrc=address)
    return device


def open_ports() -> None:
    """Allow every user in this network to listen on all ports, and to ping."""
    set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    with suppress(OSError):  # in a user namespace, the group may not exist
        set_sysctl("net/ipv4/ping_group_range", f"{os.getegid()} {os.getegid()}")
