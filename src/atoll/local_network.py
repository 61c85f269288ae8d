"""DNS-SD on a local network: the network's address, and the sockets, by zeroconf.

Everybody on the network can send anything to port 5353, with any source address. So a process of this project sends multicast messages
alone, at most `MOST_A_SECOND`: a short query with the address of a victim as its source does not make it send an answer to the victim.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import psutil
from zeroconf import IPVersion, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from atoll.errors import AtollError

MOST_A_SECOND = 10
"""Greatest number of messages that are sent in a second, on average; twice as many may be sent at the same time."""

PORT = 5353


def addresses_on(wanted: str = "") -> list[str]:
    """Return an IPv4 address of this machine at an interface, or in a network, or else at each interface but loopback.

    Args:
        wanted: the name of an interface, or a network such as 10.1.0.0/16; empty for all.

    Raises:
        AtollError: `discovery.network`: there is no such interface, it is down, or it has no IPv4 address.
    """
    try:
        network: IPv4Network | None = IPv4Network(wanted) if wanted else None
    except ValueError:
        network = None
    states = psutil.net_if_stats()
    # One address for each interface: a message is sent once there.
    found = {
        name: each.address
        for name, addresses in psutil.net_if_addrs().items()
        for each in reversed(addresses)
        if each.family == socket.AF_INET and _is_wanted(name, each.address, wanted, network) and name in states and states[name].isup
    }
    if found:
        return list(found.values())
    if wanted in states and not states[wanted].isup:
        raise AtollError("discovery.network", f"the interface {wanted} is down", f"`ip link set {wanted} up`")
    if wanted and network is None and wanted not in states:
        raise AtollError("discovery.network", f"there is no interface {wanted}: expected one of {', '.join(sorted(states))}")
    where = f"in the network {wanted}" if network is not None else f"at the interface {wanted}" if wanted else "but that of loopback"
    raise AtollError("discovery.network", f"this machine has no IPv4 address {where}")


def _is_wanted(name: str, address: str, wanted: str, network: IPv4Network | None) -> bool:
    if network is not None:
        return IPv4Address(address) in network
    return name == wanted if wanted else not IPv4Address(address).is_loopback


class LocalNetwork(Zeroconf):
    """The sockets of a local network, which send multicast messages alone, and a bounded number of them.

    Args:
        addresses: the addresses of this machine at the network.
        clock: monotonic seconds.

    Attributes:
        leaving: whether the last messages are being sent, to which the bound does not apply.
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.leaving = False
        self._clock = clock
        self._left, self._since = 2.0 * MOST_A_SECOND, clock()
        super().__init__(interfaces=list(addresses), ip_version=IPVersion.V4Only, use_asyncio=True)

    def async_send(self, out: Any, addr: str | None = None, port: int = PORT, *_more: Any, **_options: Any) -> None:
        """Send a message to all hosts of the network, also one that zeroconf would send to a single host.

        A query from another port than 5353 is one of a client that does not know multicast, and is not answered.
        """
        if (addr is None or port == PORT) and (self.leaving or self._allowed()):
            super().async_send(out)

    def _allowed(self) -> bool:
        now = self._clock()
        self._left, self._since = min(self._left + (now - self._since) * MOST_A_SECOND, 2.0 * MOST_A_SECOND), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


async def opened(addresses: Sequence[str]) -> LocalNetwork:
    """Return the open sockets of a local network.

    Args:
        addresses: as `addresses_on` returns them.

    Raises:
        AtollError: `discovery.network`: the port is busy, or no address can be used for multicast.
    """
    try:
        network = LocalNetwork(addresses)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise AtollError("discovery.network", f"multicast DNS can't be used: {error.strerror}") from None
        message = f"UDP port {PORT} of this machine is used by a program that does not share it"
        raise AtollError("discovery.network", message, "`ss -ulpn` shows it; Avahi needs disallow-other-stacks=no") from None
    await network.async_wait_for_start()
    if not network.engine.senders:
        await closed(network)
        raise AtollError("discovery.network", f"the interface with the address {addresses[0]} can't send multicast messages")
    return network


async def closed(network: LocalNetwork) -> None:
    """Withdraw what was announced, and close the sockets."""
    network.leaving = True
    await AsyncZeroconf(zc=network).async_close()
