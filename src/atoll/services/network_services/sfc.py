"""Service function chaining: packets of a flow go through a chain of ports first. OVN has no driver for it."""

from __future__ import annotations

from atoll.services.contract import Settings
from atoll.services.ini import Sections
from atoll.services.network_services.contract import NetworkService, Obstacle, Way
from atoll.services.network_services.probes import kernel_filters_bridges


def _agent(_settings: Settings) -> Sections:
    """Security groups in a bridge of the kernel's, one for each guest.

    Where Open vSwitch filters, what is steered into a chain never gets to its filter, which then takes the answers for strays: ping
    and TCP would end at the first packet.
    """
    return {"securitygroup": {"firewall_driver": "iptables_hybrid", "enable_ipset": False}}


def _obstacle() -> Obstacle | None:
    if kernel_filters_bridges():
        return None
    return Obstacle("the kernel has no br_netfilter, by which guests in chains are filtered", "a kernel with CONFIG_BRIDGE_NETFILTER")


SFC = NetworkService(
    "sfc",
    "packets go through a chain of guests first (service function chaining)",
    {
        "ovs": Way(
            plugins=("flow_classifier", "sfc"),
            configuration=lambda _settings: {"sfc": {"drivers": "ovs"}, "flowclassifier": {"drivers": "ovs"}},
            extensions={"ovs-agent": ("sfc",)},
            agents={"ovs-agent": _agent},
            rpc=True,
            programs={"ovs-ofctl": "openvswitch-common"},
            obstacle=_obstacle,
        )
    },
    distributions=("networking-sfc",),
    models=("networking_sfc.db.migration.models.head",),
    stamp="alembic_version_sfc",
)
