"""Tap as a service: copies of a port's packets are sent elsewhere.

With OVN there are only tap mirrors, whose copies leave in GRE or ERSPAN. Tap services and tap flows, which copy to another port, need the
agent of ML2/OVS.
"""

from __future__ import annotations

from atoll.services.neutron.network_services.contract import Implementation, NetworkService

_DRIVERS = "neutron_taas.services.taas.service_drivers"

TAP = NetworkService(
    "tap",
    "copies of a port's packets (tap as a service)",
    {
        # The plug-in of mirrors has no API unless the plug-in of taps is loaded.
        "ovn": Implementation(plugins=("taas", "tapmirror"), providers=(f"TAAS:TAAS:{_DRIVERS}.ovn.taas_ovn.TaasOvnDriver:default",)),
        "ovs": Implementation(
            plugins=("taas", "tapmirror"),
            providers=(f"TAAS:TAAS:{_DRIVERS}.taas_rpc.TaasRpcDriver:default",),
            extensions={"ovs-agent": ("taas",)},
            rpc=True,
        ),
    },
    distributions=("tap-as-a-service",),
    models=("neutron_taas.db.head", "neutron_taas.db.tap_mirror_db"),
    stamp="alembic_version_taas",
)
