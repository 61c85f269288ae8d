"""What both emulators do; they obey the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pyroute2.netlink.exceptions import NetlinkError

from atoll.cloud.network import Ends, Node, Wire
from atoll.wan.datapath import Counters

DEVICE = "wan0"
"""The device of a site that leads to the others, with the userspace emulator."""


REFUSALS = (OSError, NetlinkError)
"""The errors by which the kernel refuses something; the second is pyroute2's."""


class Emulator(Protocol):
    """Makes links between nodes. None of its methods checks what it is told; all raise one of `REFUSALS` if the kernel refuses.

    Attributes:
        name: as it is shown.
    """

    name: str

    def add(self, node: Node) -> None:
        """Give a node its place; the addresses know its number already."""

    def remove(self, name: str) -> None:
        """Take a node away whose wires are gone."""

    def wire(self, ends: Ends, wire: Wire, *, up: bool) -> None:
        """Lay or change one direction of a link, at once."""

    def unwire(self, ends: Ends) -> None:
        """Take one direction of a link away."""

    def route(self, hops: Mapping[Ends, str]) -> None:
        """Replace all routes: by node and destination, the neighbour that comes next."""

    def network(self, name: str) -> int | None:
        """The descriptor of a node's network namespace; None if it has none."""

    def counters(self) -> dict[Ends, Counters]:
        """What went over each direction of each link."""

    def check(self) -> None:
        """Raise OSError if it moves packets no more."""

    def close(self) -> None:
        """Take everything away."""
