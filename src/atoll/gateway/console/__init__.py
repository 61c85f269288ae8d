"""The consoles of guests, carried by the gateways."""

from atoll.gateway.console.consoles import PEER_PATH, Consoles
from atoll.gateway.console.request import WHY

__all__ = ["PEER_PATH", "WHY", "Consoles"]
