"""Firewall as a service, version 2: rules for packets that pass through the ports of routers.

With OVN the rules are stateless ACLs of the logical switches: answers to an allowed packet must be allowed too.
"""

from __future__ import annotations

from atoll.services.neutron.network_services.contract import Implementation, NetworkService

_DRIVERS = "neutron_fwaas.services.firewall.service_drivers"

FIREWALL = NetworkService(
    "firewall",
    "rules for the ports of routers (firewall as a service, version 2)",
    {
        "ovn": Implementation(
            plugins=("firewall_v2",), providers=(f"FIREWALL_V2:ovn:{_DRIVERS}.ovn.firewall_l3_driver.OVNFwaasDriver:default",)
        ),
        "ovs": Implementation(
            plugins=("firewall_v2",),
            providers=(f"FIREWALL_V2:agents:{_DRIVERS}.agents.agents.FirewallAgentDriver:default",),
            extensions={"l3-agent": ("fwaas_v2",)},
            agents={"l3-agent": lambda _settings: {"fwaas": {"enabled": True, "agent_version": "v2", "driver": "iptables_v2"}}},
            rpc=True,
        ),
    },
    distributions=("neutron-fwaas",),
    models=("neutron_fwaas.db.models.head", "neutron_fwaas.db.firewall.v2.firewall_db_v2"),
    stamp="alembic_version_fwaas",
)
