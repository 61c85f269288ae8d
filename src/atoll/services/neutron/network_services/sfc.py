"""Service function chaining: the packets of a flow pass through a chain of ports first. OVN has no driver for chains."""

from __future__ import annotations

from atoll.services.contract import Settings
from atoll.services.ini import Sections
from atoll.services.neutron.network_services.contract import Implementation, NetworkService, Obstacle
from atoll.services.neutron.network_services.probes import kernel_filters_bridges


def _agent(_settings: Settings) -> Sections:
    """Return the options that enforce security groups in a Linux bridge for each guest.

    If Open vSwitch enforced them, packets that are steered into a chain would bypass its filter, which would then drop the answers as
    unrelated: ping and TCP would fail after the first packet.
    """
    return {"securitygroup": {"firewall_driver": "iptables_hybrid", "enable_ipset": False}}


def _obstacle() -> Obstacle | None:
    if kernel_filters_bridges():
        return None
    return Obstacle("the kernel has no br_netfilter, which filters packets of guests in chains", "a kernel with CONFIG_BRIDGE_NETFILTER")


SFC = NetworkService(
    "sfc",
    "packets go through a chain of guests first (service function chaining)",
    {
        "ovs": Implementation(
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
