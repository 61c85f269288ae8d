"""Configuration of Neutron and its agents for the data plane `ovs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atoll.services import common
from atoll.services.contract import Settings
from atoll.services.ini import Sections, render
from atoll.services.neutron import network_services
from atoll.services.neutron.ovn import layout

SWITCH_AGENT = "ovs-agent"
"""The name by which network services refer to the Open vSwitch agent."""

ROUTER_AGENT = "l3-agent"
"""The name by which network services refer to the L3 agent."""

THREADS = 8
"""Number of threads for each listener that answer messages; upstream's default suits a hundred agents."""

FILE = "neutron/agents.conf"

DNSMASQ = "user=root\ngroup=root\n"
"""Options of dnsmasq by which it stays root: as `nobody` it could not read the agent's files."""


def server(settings: Settings) -> Sections:
    """Return Neutron's own options for this data plane."""
    return {
        "DEFAULT": {
            "dhcp_agent_notification": True,
            # With 0, Neutron would send no messages to agents; `_listener` in services/neutron/service.py starts the real workers.
            "rpc_workers": 1,
            "executor_thread_pool_size": THREADS,
        },
        # Service function chains support VXLAN networks alone.
        "ml2": {"mechanism_drivers": "openvswitch", "type_drivers": "local,flat,vlan,geneve,vxlan", "project_network_types": "vxlan"},
        "ml2_type_vxlan": {"vni_ranges": "1:4094"},
        "ml2_type_vlan": {"network_vlan_ranges": f"{layout.PHYSICAL_NETWORK}:1:4094"},
    }


def dnsmasq_file(settings: Settings) -> Path:
    """Return the path of the file that holds `DNSMASQ`."""
    return layout.agents_state(settings) / "dnsmasq.conf"


def agents(settings: Settings) -> dict[str, str]:
    """Render the one file that all agents read, since they share a process."""
    database = layout.database(settings)
    sections: Sections = {
        "DEFAULT": {
            "host": settings.site,
            "executor_thread_pool_size": THREADS,
            "state_path": str(layout.agents_state(settings)),
            "interface_driver": "openvswitch",
            "enable_isolated_metadata": True,
            "dnsmasq_config_file": str(dnsmasq_file(settings)),
            "dns_domain": "atoll.internal.",
            "nova_metadata_host": settings.listens_at("metadata"),
            "nova_metadata_port": settings.ports["metadata"],
            "metadata_proxy_shared_secret": settings.secrets["metadata"],
            "metadata_proxy_socket": str(layout.directory(settings) / "metadata.sock"),
            "metadata_workers": 4,  # threads of the agent itself
        },
        "agent": {"extensions": network_services.agent_extensions(settings, SWITCH_AGENT)},
        "AGENT": {
            "root_helper": "",
            "tunnel_types": "vxlan,geneve",  # no tunnels yet, since a site is one machine
            # The agent polls its own copy of the database. The alternative is ovsdb-client(1), which misses changes while
            # it restarts.
            "minimize_polling": False,
            "polling_interval": 1,
        },
        "OVS": {
            "ovsdb_connection": database,
            "integration_bridge": layout.INTEGRATION_BRIDGE,
            "bridge_mappings": f"{layout.PHYSICAL_NETWORK}:{layout.EXTERNAL_BRIDGE}",
            "datapath_type": settings.datapath,
            "local_ip": settings.own_address,
        },
        "securitygroup": {"firewall_driver": "openvswitch"},
    }
    services = [part for agent in (SWITCH_AGENT, ROUTER_AGENT) for part in network_services.agent_configuration(settings, agent)]
    return {FILE: render(_logging(settings), common.bus(settings), sections, *services)}


def _logging(settings: Settings) -> Sections:
    """Return the logging options, without the message that the Open vSwitch agent logs every second."""
    general = common.logging(settings)
    levels = general["DEFAULT"]["default_log_levels"]
    assert isinstance(levels, Iterable)
    loop = () if settings.debug else ("neutron.plugins.ml2.drivers.openvswitch.agent.ovs_neutron_agent=WARNING",)
    return {**general, "DEFAULT": {**general["DEFAULT"], "default_log_levels": (*levels, *loop)}}
