"""The addresses of sites and routers: at most 256 nodes, each with a prefix of 256 addresses, of which it uses one on the WAN."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from atoll.cloud.network import RANGE, Node, address_of, number_of
from atoll.errors import AtollError
from atoll.wan.datapath import NODES


class Addresses:
    """Numbers and addresses of nodes. A node keeps its number. Sites get the lowest free number, routers the highest one."""

    network = RANGE

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def assign(self, nodes: Sequence[Node]) -> None:
        """Number the nodes that have no number, and release the numbers of absent nodes.

        Raises:
            AtollError: `wan.unavailable`: more than 256 nodes; `wan.invalid`: two nodes have the same address.
        """
        if len(nodes) > NODES:
            raise AtollError("wan.unavailable", f"{len(nodes)} sites and routers: expected at most {NODES}")
        asked = {node.name: number_of(node.address) for node in nodes if node.address is not None}
        kept = {node.name: self.numbers[node.name] for node in nodes if node.name in self.numbers}
        numbers = kept | {name: number for name, number in asked.items() if number is not None}
        if len(set(numbers.values())) < len(numbers):
            raise AtollError("wan.invalid", "two sites or routers have the same address: expected different ones")
        for node in nodes:
            if node.name not in numbers:
                taken = set(numbers.values())
                upwards = range(NODES) if node.site else reversed(range(NODES))
                numbers[node.name] = next(number for number in upwards if number not in taken)
        self.numbers = numbers

    def of(self, name: str) -> IPv4Address:
        """Return the address of a site or router."""
        return address_of(self.numbers[name])

    def all(self) -> dict[str, str]:
        """Return every address, by name of the node."""
        return {name: str(self.of(name)) for name in self.numbers}
