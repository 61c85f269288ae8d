"""ovn-northd of a site: translates Neutron's networks, routers and rules into logical flows for switches."""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.neutron.ovn import layout


def configuration(_settings: Settings) -> dict[str, str]:
    """Return no files: the databases contain the configuration."""
    return {}


def run(child: Child) -> None:
    """Become ovn-northd, and report readiness once it answers."""
    settings = Settings.load(child.arguments["directory"])
    database = layout.database(settings)
    become(
        child,
        layout.command(settings, "ovn-northd", f"--ovnnb-db={database}", f"--ovnsb-db={database}"),
        lambda: layout.ask(settings, "ovn-northd", "status") is not None,
        layout.environment(settings),
    )


SERVICE = Service("northd", __name__, configuration, listens=(), needs=("ovsdb",), forked_from=ROOT)
