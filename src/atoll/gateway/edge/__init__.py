"""Edge APIs for devices and applications' servers (CAMARA): which site is nearest, and where an application's endpoints are."""

from atoll.gateway.edge.front import Door, EdgeApis
from atoll.gateway.edge.parts import concerns, edge_apis
from atoll.gateway.edge.zones import Zones

__all__ = ["Door", "EdgeApis", "Zones", "concerns", "edge_apis"]
