"""Edge discovery: the answer to a device, or to an application's server, which site is nearest (CAMARA Simple Edge Discovery 2.0.1)."""

from atoll.gateway.edge.discovery import Door, EdgeDiscovery, concerns
from atoll.gateway.edge.zones import Zones

__all__ = ["Door", "EdgeDiscovery", "Zones", "concerns"]
