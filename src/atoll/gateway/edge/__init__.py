"""Edge APIs of CAMARA and ETSI: the nearest sites, an application's endpoints, and applications with their instances."""

from atoll.gateway.edge.front import Door
from atoll.gateway.edge.parts import EdgeFronts, concerns, edge_apis
from atoll.gateway.edge.zones import Zones

__all__ = ["Door", "EdgeFronts", "Zones", "concerns", "edge_apis"]
