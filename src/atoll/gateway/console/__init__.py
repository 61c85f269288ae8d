"""The consoles of guests, which the gateways carry over WebSockets."""

from atoll.gateway.console.consoles import PEER_PATH, Consoles
from atoll.gateway.console.request import WHY

__all__ = ["PEER_PATH", "WHY", "Consoles"]
