"""Open vSwitch of a site. Where the kernel has no module for it, packets go through the process itself (the `netdev` data path)."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from atoll.namespaces import private_mounts
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services import leftovers
from atoll.services.contract import Service, Settings
from atoll.services.ovn import guest_filter, layout


def configuration(_settings: Settings) -> dict[str, str]:
    """Nothing: the database says it all."""
    return {}


def run(child: Child) -> None:
    """Tell the switch what it is, and start it."""
    settings = Settings.load(child.arguments["directory"])
    told = ["ovs-vsctl", f"--db={layout.database(settings)}", f"--timeout={layout.PATIENCE_S}", "--no-wait", *_setup(settings)]
    subprocess.run(told, check=True)
    if settings.network == "ovs":
        _make_namespaces(settings)
    guest_filter.install(settings)  # before the bridge leads anywhere
    if settings.forwards:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    become(
        child,
        layout.command(settings, "ovs-vswitchd", layout.database(settings)),
        lambda: _has_outside(settings),
        layout.environment(settings),
    )


def _make_namespaces(settings: Settings) -> None:
    """Have a /run/netns of our own, for the agents: the namespaces of their routers hold ports of ours, and end when they do."""
    leftovers.end(layout.agents_state(settings))
    names = settings.sockets / "netns"
    shutil.rmtree(names, ignore_errors=True)  # files on which namespaces were mounted: they would be taken for those
    private_mounts({"/run/netns": str(names)})


def _setup(settings: Settings) -> list[str]:
    """What ovs-vsctl(8) is told: who we are, where OVN is, and the bridge that leads outside."""
    facts = {
        "system-id": layout.chassis(settings),
        # By this name Nova asks for a port to be bound.
        "hostname": settings.site,
        **(_facts_of_ovn(settings) if settings.network == "ovn" else {}),
    }
    told = [f'external-ids:{name}="{value}"' for name, value in facts.items()]
    bridge = layout.EXTERNAL_BRIDGE
    return [
        *("--", "init", "--", "set", "Open_vSwitch", ".", *told),
        *("--", "--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, f"datapath_type={settings.datapath}"),
        # As long as no controller tells it otherwise, it is a plain switch.
        *("--", "set", "Bridge", bridge, "fail_mode=standalone"),
    ]


def _facts_of_ovn(settings: Settings) -> dict[str, str]:
    return {
        "ovn-remote": layout.database(settings),
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": settings.own_address,
        "ovn-bridge": layout.INTEGRATION_BRIDGE,
        "ovn-bridge-datapath-type": settings.datapath,
        "ovn-bridge-mappings": f"{layout.PHYSICAL_NETWORK}:{layout.EXTERNAL_BRIDGE}",
        "ovn-cms-options": "enable-chassis-as-gw",
    }


def _has_outside(settings: Settings) -> bool:
    """True once the way out is there, which this does its part for."""
    with suppress(OSError):
        socket.if_nametoindex(layout.EXTERNAL_BRIDGE)
        if settings.outside:
            subprocess.run(["ip", "address", "replace", settings.outside, "dev", layout.EXTERNAL_BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", layout.EXTERNAL_BRIDGE, "up"], check=True)
        return True
    return False


SERVICE = Service("vswitchd", __name__, configuration, listens=(), needs=("ovsdb",), forked_from=ROOT)
