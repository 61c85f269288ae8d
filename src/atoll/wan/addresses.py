"""Which address each site and router has: 256 of them, each with 256 addresses of which it uses the first."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from atoll.cloud.network import RANGE, Node, address_of, number_of
from atoll.errors import AtollError
from atoll.wan.datapath import NODES


class Addresses:
    """Gives every node a number, which it keeps, and with it an address. Sites count up, routers, which nobody names, down."""

    network = RANGE

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def assign(self, nodes: Sequence[Node]) -> None:
        """Give numbers to nodes that have none, and forget those that are not named.

        Raises:
            AtollError: `wan.unavailable`: there are too many; `wan.invalid`: two have one address.
        """
        if len(nodes) > NODES:
            raise AtollError("wan.unavailable", f"{len(nodes)} sites and routers: the WAN holds at most {NODES}")
        asked = {node.name: number_of(node.address) for node in nodes if node.address is not None}
        kept = {node.name: self.numbers[node.name] for node in nodes if node.name in self.numbers}
        numbers = kept | {name: number for name, number in asked.items() if number is not None}
        if len(set(numbers.values())) < len(numbers):
            raise AtollError("wan.invalid", "two sites or routers have one address: expected another for each")
        for node in nodes:
            if node.name not in numbers:
                taken = set(numbers.values())
                upwards = range(NODES) if node.site else reversed(range(NODES))
                numbers[node.name] = next(number for number in upwards if number not in taken)
        self.numbers = numbers

    def of(self, name: str) -> IPv4Address:
        """The address of a site or router."""
        return address_of(self.numbers[name])

    def all(self) -> dict[str, str]:
        """Every address, by name."""
        return {name: str(self.of(name)) for name in self.numbers}
