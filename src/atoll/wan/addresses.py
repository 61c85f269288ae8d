"""Which address each site and router has: 256 of them, each with 256 addresses of which it uses the first."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from atoll.errors import AtollError
from atoll.wan.datapath import NODES

NETWORK = IPv4Network("10.77.0.0/16")
"""Of all sites. It exists in their namespaces only."""


class Addresses:
    """Gives every node a number, which it keeps, and with it an address.

    Args:
        network: with a prefix of 16 bits.
    """

    def __init__(self, network: IPv4Network = NETWORK) -> None:
        self.network = network
        self.numbers: dict[str, int] = {}

    def assign(self, names: Iterable[str]) -> None:
        """Give numbers to nodes that have none, and forget those that are not named.

        Raises:
            AtollError: `wan.unavailable`: there are too many.
        """
        names = list(names)
        if len(names) > NODES:
            raise AtollError("wan.unavailable", f"{len(names)} sites and routers: the WAN holds at most {NODES}")
        self.numbers = {name: number for name, number in self.numbers.items() if name in names}
        free = (number for number in range(NODES) if number not in set(self.numbers.values()))
        for name in names:
            if name not in self.numbers:
                self.numbers[name] = next(free)

    def of(self, name: str) -> IPv4Address:
        """The address of a site or router."""
        return self.network.network_address + (self.numbers[name] << 8) + 1

    def all(self) -> dict[str, str]:
        """Every address, by name."""
        return {name: str(self.of(name)) for name in self.numbers}
