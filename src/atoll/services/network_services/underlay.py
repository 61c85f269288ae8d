"""How packets of Open vSwitch's own tunnels get from site to site, where the switch is in user space and the WAN has no Ethernet.

Open vSwitch in user space makes and ends tunnels by itself, for addresses of its bridges, and wants to send them through one of these. The
WAN is a device of layer 3, and can't be in a bridge. So there is a port between the bridge that leads outside and the kernel, by which the
kernel gets what is for other sites, and sends it on; and what comes in from them the kernel gives to the switch by that port, before it
would take it for its own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from atoll.cloud.network import RANGE
from atoll.services.contract import Settings
from atoll.services.ovn import layout

PORT = "underlay"
PROTOCOL = "gre"

KERNEL, SOURCE, SWITCH = "169.254.47.1", "169.254.47.2", "169.254.47.5"
"""What the two ends of the port call one another, and what the switch asks for the kernel's from; nobody else sees them."""

TABLE = "47"

_RULES = (
    ("5", "lookup local"),  # it was the first, and would take tunnels' packets for the kernel's own
    ("1", f"iif {PORT} lookup local"),
    ("2", f"iif {PORT} lookup main"),
    ("3", f"ipproto {PROTOCOL} lookup {TABLE}"),
)


def needed(settings: Settings) -> bool:
    """True if tunnels to other sites would find no way without it."""
    return settings.datapath == "netdev" and settings.forwards


def lay(settings: Settings) -> None:
    """Make it, as often as the switch was started: it forgets its routes, and the kernel the port."""
    bridge = layout.EXTERNAL_BRIDGE
    told = ("--may-exist", "add-port", bridge, PORT, "--", "set", "Interface", PORT, "type=internal")
    _run("ovs-vsctl", f"--db={layout.database(settings)}", f"--timeout={layout.PATIENCE_S}", *told)  # returns when the interface is there
    _run("ip", "address", "replace", f"{KERNEL}/32", "dev", PORT)
    _run("ip", "link", "set", PORT, "up")
    # What the switch sends comes from an address of the kernel's own.
    for name, value in (("accept_local", "1"), ("rp_filter", "0"), ("forwarding", "1")):
        Path(f"/proc/sys/net/ipv4/conf/{PORT}/{name}").write_text(value, encoding="ascii")
    _run("ip", "address", "replace", f"{SOURCE}/30", "dev", bridge, "scope", "link")
    _run("ip", "neighbour", "replace", SWITCH, "lladdr", _hardware_address(bridge), "dev", PORT)
    _run("ip", "route", "replace", "default", "via", SWITCH, "dev", PORT, "onlink", "table", TABLE)
    for preference, rule in _RULES:
        _run("ip", "rule", "add", "pref", preference, *rule.split(), check=False)  # it may be there
    _run("ip", "rule", "delete", "pref", "0", check=False)
    _run("ovs-appctl", f"--timeout={layout.PATIENCE_S}", "-t", "ovs-vswitchd", "ovs/route/add", str(RANGE), bridge, KERNEL)


def _hardware_address(interface: str) -> str:
    fields = subprocess.run(["ip", "-brief", "link", "show", "dev", interface], capture_output=True, text=True, check=True).stdout.split()
    return fields[2]


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=not check)
