"""The interface that both emulators, netem and userspace, implement; both follow the same model of links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pyroute2.netlink.exceptions import NetlinkError

from atoll.cloud.network import Ends, Node, Wire
from atoll.wan.datapath import Counters

DEVICE = "wan0"
"""The name of a site's TUN device, which the userspace emulator uses."""


REFUSALS = (OSError, NetlinkError)
"""The errors by which the kernel refuses an operation; the second is pyroute2's."""


class Emulator(Protocol):
    """An emulator of links between nodes. Its methods do not check their arguments, and raise one of `REFUSALS` if the kernel refuses.

    Attributes:
        name: the emulator's name in messages.
    """

    name: str

    def add(self, node: Node) -> None:
        """Create a node, to which `Addresses` has assigned an address already."""

    def remove(self, name: str) -> None:
        """Remove a node that has no wires any more."""

    def wire(self, ends: Ends, wire: Wire, *, up: bool) -> None:
        """Create or change one direction of a link, with immediate effect."""

    def unwire(self, ends: Ends) -> None:
        """Remove one direction of a link."""

    def route(self, hops: Mapping[Ends, str]) -> None:
        """Replace all routes. `hops` holds the next neighbour, by node and destination."""

    def network(self, name: str) -> int | None:
        """Return the descriptor of a node's network namespace; `None` if it has none."""

    def counters(self) -> dict[Ends, Counters]:
        """Return the traffic of each direction of each link."""

    def check(self) -> None:
        """Raise OSError if the emulator has stopped moving packets."""

    def close(self) -> None:
        """Remove all nodes and links."""
