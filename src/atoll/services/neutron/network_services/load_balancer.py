"""Load balancing as a service: Octavia, whose OVN provider implements load balancers as flows of the site's switch."""

from __future__ import annotations

from atoll.services.neutron.network_services.contract import Implementation, NetworkService
from atoll.services.octavia import service as octavia

LOAD_BALANCER = NetworkService(
    "load-balancer",
    "TCP, UDP and SCTP load balancers without machines of their own (Octavia with the OVN provider)",
    {"ovn": Implementation(processes=(octavia.SERVICE,))},
    distributions=("octavia", "ovn-octavia-provider"),
)
