"""ovn-controller of a site: has the site's switch do what OVN's southbound database says; it answers DHCP, DNS and router solicitations."""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.ovn import layout

PROGRAM = "ovn-controller"


def configuration(_settings: Settings) -> dict[str, str]:
    """Nothing: the switch's database says it all."""
    return {}


def run(child: Child) -> None:
    """Start it."""
    settings = Settings.load(child.arguments["directory"])
    become(
        child,
        # Whoever has packets logged (the network service `log`) finds them in its log.
        layout.command(settings, PROGRAM, "-vacl_log:console:info", layout.database(settings)),
        lambda: layout.ask(settings, PROGRAM, "connection-status") == "connected",
        layout.environment(settings),
    )


SERVICE = Service("ovn-controller", __name__, configuration, listens=(), needs=("vswitchd", "northd"), forked_from=ROOT)
