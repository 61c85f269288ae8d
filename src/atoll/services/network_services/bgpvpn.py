"""Interconnection with BGP VPNs: networks and routers are joined to VPNs of the world outside, by bagpipe. OVN has no driver for it."""

from __future__ import annotations

from atoll.services.network_services.contract import NetworkService, Way

_DRIVER = "networking_bgpvpn.neutron.services.service_drivers.bagpipe.bagpipe_v2.BaGPipeBGPVPNDriver"

BGPVPN = NetworkService(
    "bgpvpn",
    "networks and routers are joined to BGP VPNs (networking-bgpvpn with networking-bagpipe)",
    {
        "ovs": Way(
            plugins=("bgpvpn",),
            providers=(f"BGPVPN:BaGPipe:{_DRIVER}:default",),
            extensions={"ovs-agent": ("bagpipe_bgpvpn",)},
            rpc=True,
        )
    },
    distributions=("networking-bagpipe", "networking-bgpvpn"),
    models=("networking_bgpvpn.neutron.db.head", "networking_bagpipe.db.models.head"),
    stamp="alembic_version_bgpvpn",
)
