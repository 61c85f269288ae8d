"""BGP sessions of bagpipe-bgp with the library that it asks for.

networking-bagpipe 25 requires exabgp 5, and its worker for a peer (networking_bagpipe/bagpipe_bgp/engine/exabgp_peer_worker.py) still
speaks to it as to exabgp 4: no session ever comes about, and no route would be taken from one. Replaced:

- the class of neighbours: what is known of one is in a dictionary now, and `_initiate_connection` sets attributes;
- `exabgp.bgp.message.IN`, which names what a route that has come in is; there is one `Action` for both directions now.
"""

from __future__ import annotations

from typing import Any

from exabgp.bgp import message, neighbor
from exabgp.bgp.message.action import Action
from networking_bagpipe.bagpipe_bgp.engine import exabgp_peer_worker


class Neighbor(neighbor.Neighbor):  # type: ignore[misc]
    """exabgp's, whose attributes are its entries."""

    def __setattr__(self, name: str, value: Any) -> None:
        entry = name.replace("_", "-")
        if entry in self.defaults:
            self[entry] = value
        else:
            super().__setattr__(name, value)


class _Neighbors:
    """What the worker takes for the module of neighbours."""

    Neighbor = Neighbor


class _Incoming:
    ANNOUNCED = Action.ANNOUNCE
    WITHDRAWN = Action.WITHDRAW


def install() -> None:
    """Have bagpipe-bgp speak to exabgp 5."""
    exabgp_peer_worker.exa_neighbor = _Neighbors
    message.IN = _Incoming
