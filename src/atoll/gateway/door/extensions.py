"""The parts of the gateway that its servers use besides the gateway itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from atoll.gateway import handoffs, overlays
from atoll.gateway.console import Consoles
from atoll.gateway.edge import EdgeFronts
from atoll.gateway.identity.freshness import Freshness

OwnApi = EdgeFronts | overlays.OverlayBases | handoffs.Handoffs
"""An API that the gateway answers by itself, and not from a service of OpenStack."""


@dataclass(frozen=True)
class Extensions:
    """The parts, which the gateway's application constructs.

    Attributes:
        consoles: carries the consoles of guests.
        edge: answers the APIs of CAMARA and ETSI.
        bases: brings the bases of overlays to this site.
        handoffs: hands servers to other sites.
        freshness: fetches identity data that another site had when it sent a request or issued a token.
        extend: adds handlers to the application of the peer port, below `/atoll/`.
    """

    consoles: Consoles
    edge: EdgeFronts
    bases: overlays.OverlayBases
    handoffs: handoffs.Handoffs
    freshness: Freshness
    extend: Callable[[web.Application], None]
