"""What guests reach of sites: of the sockets at sites' own addresses, the gateway's public port alone.

Guests' packets come out of the bridge of the external network into the site's network, whose kernel takes those for the site's own
addresses, and in a topology forwards those for other sites. A chain of iptables drops what would open anything but the public port: of this
site, and, before it gets there, of any other. Packets of connections that the site's own processes have opened pass, and so does ICMP.

Open vSwitch in user space gets a copy of what guests send to their interfaces; the kernel gets the packets too. A guest that sends them to
the hardware address of its interface would be served past the switch. So the kernel takes nothing from these interfaces.
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

from atoll.cloud.network import RANGE
from atoll.services.contract import Settings
from atoll.services.ovn import layout

CHAIN = "atoll-guests"

TOOLS = {"iptables": "icmp", "ip6tables": "ipv6-icmp"}
"""The program for each version of IP, and its protocol for errors and neighbours."""

_GUEST_DEVICES = ("tap+", "qbr+", "qvb+", "qvo+")
"""The interfaces of guests and of their metadata proxies, and with ML2/OVS those between a guest and the switch."""

_ROUTED = ("tap+",)
"""Those of them from which nothing is bridged: a bridge's packets may pass FORWARD too."""

_SITES = f"{RANGE.network_address}/{IPv4Address(int(RANGE.netmask) | 0x80)}"
"""Addresses of sites and routers in a topology: the lower half of each 256. The upper one is that of an external network."""


def install(settings: Settings) -> None:
    """Make the chain anew, and have guests' packets go through it.

    Raises:
        subprocess.CalledProcessError: this kernel can't filter, which `iptables` has said on standard error.
    """
    for tool, errors in TOOLS.items():
        rules = "".join(f"-A {CHAIN} {rule}\n" for rule in _rules(settings, errors))
        # One transaction, which empties the chain first: at no moment is anything open.
        subprocess.run([f"{tool}-restore", "--noflush"], input=f"*filter\n:{CHAIN} - [0:0]\n{rules}COMMIT\n", text=True, check=True)
        for jump in _jumps(settings, tool):
            if subprocess.run([tool, "--check", *jump], check=False, capture_output=True).returncode != 0:
                subprocess.run([tool, "--insert", *jump], check=True)


def remove(settings: Settings) -> None:
    """Take the chain away, if it is there: of a site in a network of its own it goes with that."""
    for tool in TOOLS:
        for words in (*(("--delete", *jump) for jump in _jumps(settings, tool)), ("--flush", CHAIN), ("--delete-chain", CHAIN)):
            subprocess.run([tool, *words], check=False, capture_output=True)


def _rules(settings: Settings, errors: str) -> tuple[str, ...]:
    return (
        f"-p {errors} -j RETURN",
        "-p tcp ! --syn -j RETURN",
        f"-p tcp --dport {settings.ports['gateway']} -j RETURN",
        "-j DROP",
    )


def _jumps(settings: Settings, tool: str) -> list[tuple[str, ...]]:
    jump = ("-i", layout.EXTERNAL_BRIDGE, "-j", CHAIN)
    forwarded = settings.forwards and tool == "iptables"
    dropped = [("INPUT", "-i", device, "-j", "DROP") for device in _GUEST_DEVICES]
    dropped += [("FORWARD", "-i", device, "-j", "DROP") for device in _ROUTED]
    return [("INPUT", *jump), *([("FORWARD", "-d", _SITES, *jump)] if forwarded else []), *dropped]
