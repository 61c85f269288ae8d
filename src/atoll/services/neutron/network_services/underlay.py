"""The underlay of Open vSwitch's tunnels between sites, if the switch is in user space and the WAN is a layer-3 device.

Open vSwitch in user space terminates tunnels by itself, at addresses of its bridges, and sends their packets through one of these bridges.
A layer-3 device cannot be in a bridge. So an internal port connects the external bridge and the kernel: the kernel receives packets for
other sites from it and forwards them, and passes packets from other sites to the switch through the port, before it would deliver them to
itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from atoll.cloud.network import RANGE
from atoll.services.contract import Settings
from atoll.services.neutron.ovn import layout

PORT = "underlay"
PROTOCOL = "gre"

KERNEL, SOURCE, SWITCH = "169.254.47.1", "169.254.47.2", "169.254.47.5"
"""The kernel's address at the port, the address from which the switch resolves it by ARP, and the switch's address; all are internal."""

TABLE = "47"

_RULES = (
    ("5", "lookup local"),  # at the default preference 0, this rule would deliver tunnels' packets to the kernel
    ("1", f"iif {PORT} lookup local"),
    ("2", f"iif {PORT} lookup main"),
    ("3", f"ipproto {PROTOCOL} lookup {TABLE}"),
)


def is_needed(settings: Settings) -> bool:
    """Return whether tunnels to other sites need the underlay."""
    return settings.datapath == "netdev" and settings.forwards


def create(settings: Settings) -> None:
    """Create the underlay; needed at each start of the switch, which forgets its routes, and whose end removes the port from the kernel."""
    bridge = layout.EXTERNAL_BRIDGE
    told = ("--may-exist", "add-port", bridge, PORT, "--", "set", "Interface", PORT, "type=internal")
    _run("ovs-vsctl", f"--db={layout.database(settings)}", f"--timeout={layout.PATIENCE_S}", *told)  # returns once the interface exists
    _run("ip", "address", "replace", f"{KERNEL}/32", "dev", PORT)
    _run("ip", "link", "set", PORT, "up")
    # The switch sends packets from one of the kernel's own addresses.
    for name, value in (("accept_local", "1"), ("rp_filter", "0"), ("forwarding", "1")):
        Path(f"/proc/sys/net/ipv4/conf/{PORT}/{name}").write_text(value, encoding="ascii")
    _run("ip", "address", "replace", f"{SOURCE}/30", "dev", bridge, "scope", "link")
    _run("ip", "neighbour", "replace", SWITCH, "lladdr", _hardware_address(bridge), "dev", PORT)
    _run("ip", "route", "replace", "default", "via", SWITCH, "dev", PORT, "onlink", "table", TABLE)
    for preference, rule in _RULES:
        _run("ip", "rule", "add", "pref", preference, *rule.split(), check=False)  # the rule may exist already
    _run("ip", "rule", "delete", "pref", "0", check=False)
    _run("ovs-appctl", f"--timeout={layout.PATIENCE_S}", "-t", "ovs-vswitchd", "ovs/route/add", str(RANGE), bridge, KERNEL)


def _hardware_address(interface: str) -> str:
    fields = subprocess.run(["ip", "-brief", "link", "show", "dev", interface], capture_output=True, text=True, check=True).stdout.split()
    return fields[2]


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=not check)
