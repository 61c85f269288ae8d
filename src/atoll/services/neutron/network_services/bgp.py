"""Dynamic routing: a site announces the routes to its tenants' networks and floating IPs by BGP."""

from __future__ import annotations

from atoll.services.neutron.network_services import bgp_agent
from atoll.services.neutron.network_services.contract import Implementation, NetworkService

_WAY = Implementation(plugins=("bgp",), processes=(bgp_agent.SERVICE,), rpc=True)

BGP = NetworkService(
    "bgp",
    "announces floating IPs and tenants' networks to routers outside, by BGP (dynamic routing)",
    {"ovn": _WAY, "ovs": _WAY},
    distributions=("neutron-dynamic-routing",),
    models=("neutron_dynamic_routing.db.migration.models.head",),
    stamp="alembic_version_dr",
)
