"""Edge APIs of CAMARA and ETSI: the nearest sites, an application's endpoints, and applications with their instances."""

from atoll.gateway.edge.front import Door, Question
from atoll.gateway.edge.mobility import Consent, MobilityEvent, Status, after_move, consent
from atoll.gateway.edge.parts import EdgeFronts, concerns, edge_apis, upgrades
from atoll.gateway.edge.zones import Zones

__all__ = [
    "Consent",
    "Door",
    "EdgeFronts",
    "MobilityEvent",
    "Question",
    "Status",
    "Zones",
    "after_move",
    "concerns",
    "consent",
    "edge_apis",
    "upgrades",
]
