"""Open vSwitch of a site. If the kernel has no module for Open vSwitch, packets are forwarded in user space (the data path `netdev`)."""

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
from atoll.services.contract import Service, Settings
from atoll.services.neutron import orphans
from atoll.services.neutron.ovn import guest_filter, layout


def configuration(_settings: Settings) -> dict[str, str]:
    """Return no files: the database contains the configuration."""
    return {}


def run(child: Child) -> None:
    """Configure the switch, and become ovs-vswitchd."""
    settings = Settings.load(child.arguments["directory"])
    told = ["ovs-vsctl", f"--db={layout.database(settings)}", f"--timeout={layout.PATIENCE_S}", "--no-wait", *_setup(settings)]
    subprocess.run(told, check=True)
    if settings.network == "ovs":
        _make_namespaces(settings)
    guest_filter.install(settings)  # installed before the bridge forwards packets
    if settings.forwards:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    become(
        child,
        layout.command(settings, "ovs-vswitchd", layout.database(settings)),
        lambda: _has_outside(settings),
        layout.environment(settings),
    )


def _make_namespaces(settings: Settings) -> None:
    """Mount a separate /run/netns for the switch: its ports are in the routers' namespaces, which end with the switch."""
    orphans.kill_orphans(layout.agents_state(settings))
    names = settings.sockets / "netns"
    shutil.rmtree(names, ignore_errors=True)  # files that an earlier switch left behind, which are no longer namespaces
    private_mounts({"/run/netns": str(names)})


def _setup(settings: Settings) -> list[str]:
    """Return the arguments of ovs-vsctl(8) that set the switch's identity, OVN's address, and the external bridge."""
    facts = {
        "system-id": layout.chassis(settings),
        # Nova binds ports to this host name.
        "hostname": settings.site,
        **(_facts_of_ovn(settings) if settings.network == "ovn" else {}),
    }
    told = [f'external-ids:{name}="{value}"' for name, value in facts.items()]
    bridge = layout.EXTERNAL_BRIDGE
    return [
        *("--", "init", "--", "set", "Open_vSwitch", ".", *told),
        *("--", "--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, f"datapath_type={settings.datapath}"),
        # Without a controller, the bridge is a plain switch.
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
    """Set up this machine's side of the external bridge, and return whether the site has an external bridge."""
    with suppress(OSError):
        socket.if_nametoindex(layout.EXTERNAL_BRIDGE)
        if settings.outside:
            subprocess.run(["ip", "address", "replace", settings.outside, "dev", layout.EXTERNAL_BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", layout.EXTERNAL_BRIDGE, "up"], check=True)
        return True
    return False


SERVICE = Service("vswitchd", __name__, configuration, listens=(), needs=("ovsdb",), forked_from=ROOT)
