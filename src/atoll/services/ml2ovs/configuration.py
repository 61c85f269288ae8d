"""What Neutron and its agents are told where Open vSwitch is run by agents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atoll.services import common, network_services
from atoll.services.contract import Settings
from atoll.services.ini import Sections, render
from atoll.services.ovn import layout

SWITCH_AGENT = "ovs-agent"
"""What network services call the agent of the switch."""

ROUTER_AGENT = "l3-agent"
"""What they call the agent of routers."""

THREADS = 8
"""Threads that answer messages, of each listener. Upstream's default is made for a hundred agents."""

FILE = "neutron/agents.conf"

DNSMASQ = "user=root\ngroup=root\n"
"""It would become `nobody`, who can't read what the agent has written for it."""


def server(settings: Settings) -> Sections:
    """What Neutron itself is told."""
    return {
        "DEFAULT": {
            "dhcp_agent_notification": True,
            # Nobody is told anything where this is 0; see `_listener` in services/neutron.py for what runs really.
            "rpc_workers": 1,
            "executor_thread_pool_size": THREADS,
        },
        # Service function chains know no other networks than those of VXLAN.
        "ml2": {"mechanism_drivers": "openvswitch", "type_drivers": "local,flat,vlan,geneve,vxlan", "project_network_types": "vxlan"},
        "ml2_type_vxlan": {"vni_ranges": "1:4094"},
        "ml2_type_vlan": {"network_vlan_ranges": f"{layout.PHYSICAL_NETWORK}:1:4094"},
    }


def dnsmasq_file(settings: Settings) -> Path:
    """Where `DNSMASQ` is to stand."""
    return layout.agents_state(settings) / "dnsmasq.conf"


def agents(settings: Settings) -> dict[str, str]:
    """Render the agents' file. One process runs all of them, so one file says it all."""
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
            "tunnel_types": "vxlan,geneve",  # to nowhere yet: a site is one machine
            # It looks at its own copy of the database. To be woken instead, it would start ovsdb-client(1), and miss what happens while
            # that is started anew.
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
    """As for others, but the agent of the switch says every second that there is nothing to do."""
    general = common.logging(settings)
    levels = general["DEFAULT"]["default_log_levels"]
    assert isinstance(levels, Iterable)
    loop = () if settings.debug else ("neutron.plugins.ml2.drivers.openvswitch.agent.ovs_neutron_agent=WARNING",)
    return {**general, "DEFAULT": {**general["DEFAULT"], "default_log_levels": (*levels, *loop)}}
