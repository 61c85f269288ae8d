"""Interconnection with BGP VPNs: bagpipe connects networks and routers to external VPNs. OVN has no driver for BGP VPNs."""

from __future__ import annotations

from atoll.services.contract import Settings
from atoll.services.ini import Sections
from atoll.services.neutron.network_services import bagpipe
from atoll.services.neutron.network_services.contract import Implementation, NetworkService

_DRIVER = "networking_bgpvpn.neutron.services.service_drivers.bagpipe.bagpipe_v2.BaGPipeBGPVPNDriver"


def _agent(_settings: Settings) -> Sections:
    # If a network has no router, the switch itself answers ARP requests for its gateway.
    return {"BAGPIPE": {"mpls_bridge": bagpipe.BRIDGE}, "AGENT": {"l2_population": True, "arp_responder": True}}


BGPVPN = NetworkService(
    "bgpvpn",
    "networks and routers are joined to BGP VPNs (networking-bgpvpn with networking-bagpipe)",
    {
        "ovs": Implementation(
            plugins=("bgpvpn",),
            providers=(f"BGPVPN:BaGPipe:{_DRIVER}:default",),
            configuration=lambda _settings: {"ml2": {"mechanism_drivers": "openvswitch,l2population"}},
            extensions={"ovs-agent": ("bagpipe_bgpvpn",)},
            agents={"ovs-agent": _agent},
            processes=(bagpipe.SERVICE,),
            rpc=True,
            programs={"ovs-ofctl": "openvswitch-common"},
        )
    },
    distributions=("networking-bagpipe", "networking-bgpvpn"),
    models=("networking_bgpvpn.neutron.db.head", "networking_bagpipe.db.models.head"),
    stamp="alembic_version_bgpvpn",
)
