"""ovn-northd of a site: makes of Neutron's networks, routers and rules what switches have to do."""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.ovn import layout


def configuration(_settings: Settings) -> dict[str, str]:
    """Nothing: the databases say it all."""
    return {}


def run(child: Child) -> None:
    """Start it."""
    settings = Settings.load(child.arguments["directory"])
    database = layout.database(settings)
    become(
        child,
        layout.command(settings, "ovn-northd", f"--ovnnb-db={database}", f"--ovnsb-db={database}"),
        lambda: layout.ask(settings, "ovn-northd", "status") is not None,
        layout.environment(settings),
    )


SERVICE = Service("northd", __name__, configuration, listens=(), needs=("ovsdb",), forked_from=ROOT)
