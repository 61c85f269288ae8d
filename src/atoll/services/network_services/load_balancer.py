"""Load balancing as a service: Octavia, whose OVN provider makes load balancers out of flows of the site's switch."""

from __future__ import annotations

from atoll.services import octavia
from atoll.services.network_services.contract import NetworkService, Way

LOAD_BALANCER = NetworkService(
    "load-balancer",
    "TCP, UDP and SCTP load balancers without machines of their own (Octavia with the OVN provider)",
    {"ovn": Way(processes=(octavia.SERVICE,))},
    distributions=("octavia", "ovn-octavia-provider"),
)
