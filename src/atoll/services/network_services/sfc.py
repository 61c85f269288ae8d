"""Service function chaining: packets of a flow go through a chain of ports first. OVN has no driver for it."""

from __future__ import annotations

from atoll.services.network_services.contract import NetworkService, Way

SFC = NetworkService(
    "sfc",
    "packets go through a chain of guests first (service function chaining)",
    {
        "ovs": Way(
            plugins=("flow_classifier", "sfc"),
            configuration=lambda _settings: {"sfc": {"drivers": "ovs"}, "flowclassifier": {"drivers": "ovs"}},
            extensions={"ovs-agent": ("sfc",)},
            rpc=True,
        )
    },
    distributions=("networking-sfc",),
    models=("networking_sfc.db.migration.models.head",),
    stamp="alembic_version_sfc",
)
