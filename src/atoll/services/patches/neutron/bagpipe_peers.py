"""BGP sessions of bagpipe-bgp with exabgp 5.

networking-bagpipe 25 requires exabgp 5, but its worker for a peer (networking_bagpipe/bagpipe_bgp/engine/exabgp_peer_worker.py) calls it
through the interface of exabgp 4: no session is established, and no route is learnt. Two things are replaced:

- the class of neighbours: exabgp 5 keeps their properties in a dictionary, and `_initiate_connection` sets attributes;
- `exabgp.bgp.message.IN`, which names the kinds of received routes: exabgp 5 has one `Action` for both directions.
"""

from __future__ import annotations

from typing import Any

from exabgp.bgp import message, neighbor
from exabgp.bgp.message.action import Action
from networking_bagpipe.bagpipe_bgp.engine import exabgp_peer_worker


class Neighbor(neighbor.Neighbor):
    """exabgp's neighbour, whose attributes are its entries."""

    def __setattr__(self, name: str, value: Any) -> None:
        entry = name.replace("_", "-")
        if entry in self.defaults:
            self[entry] = value
        else:
            super().__setattr__(name, value)


class _Neighbors:
    """A stand-in for exabgp's module of neighbours."""

    Neighbor = Neighbor


class _Incoming:
    ANNOUNCED = Action.ANNOUNCE
    WITHDRAWN = Action.WITHDRAW


def install() -> None:
    """Have bagpipe-bgp call exabgp 5, in this process."""
    exabgp_peer_worker.exa_neighbor = _Neighbors
    message.IN = _Incoming
