"""ovn-controller of a site: programs the switch according to OVN's southbound database, and answers DHCP, DNS and router solicitations."""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.neutron.ovn import layout

PROGRAM = "ovn-controller"


def configuration(_settings: Settings) -> dict[str, str]:
    """Return no files: the switch's database has the configuration."""
    return {}


def run(child: Child) -> None:
    """Become ovn-controller, and report readiness once it is connected."""
    settings = Settings.load(child.arguments["directory"])
    become(
        child,
        # The network service `log` writes logged packets into ovn-controller's log.
        layout.command(settings, PROGRAM, "-vacl_log:console:info", layout.database(settings)),
        lambda: layout.ask(settings, PROGRAM, "connection-status") == "connected",
        layout.environment(settings),
    )


SERVICE = Service("ovn-controller", __name__, configuration, listens=(), needs=("vswitchd", "northd"), forked_from=ROOT)
