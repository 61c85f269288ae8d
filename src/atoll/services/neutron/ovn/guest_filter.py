"""A packet filter between guests and sites: at the sites' own addresses, guests reach only the gateways' public ports.

Packets of guests leave the external bridge into the site's network, whose kernel accepts those for the site's own addresses, and in a
topology forwards packets for other sites. A chain of iptables drops new connections to any port other than the public one, at this site
and, before the packets leave, at any other site. Packets of connections that the site's own processes have opened pass, and so does ICMP.

Open vSwitch in user space gets a copy of the packets that guests send to their interfaces; the kernel gets the packets too. A guest that
addresses packets to the hardware address of its interface's end in the kernel would bypass the switch. So the kernel accepts nothing from
these interfaces.
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

from atoll.cloud.network import RANGE
from atoll.services.contract import Settings
from atoll.services.neutron.ovn import layout

CHAIN = "atoll-guests"

TOOLS = {"iptables": "icmp", "ip6tables": "ipv6-icmp"}
"""The program for each version of IP, and the protocol of its errors and neighbours."""

_GUEST_DEVICES = ("tap+", "qbr+", "qvb+", "qvo+")
"""Interfaces of guests and of their metadata proxies, and with ML2/OVS those between a guest and the switch."""

_ROUTED = ("tap+",)
"""Guests' interfaces that are in no bridge; packets of a bridge may pass FORWARD too."""

_SITES = f"{RANGE.network_address}/{IPv4Address(int(RANGE.netmask) | 0x80)}"
"""Addresses of sites and routers in a topology: the lower half of each block of 256 addresses. External networks have the upper half."""


def install(settings: Settings) -> None:
    """Create or replace the chain of iptables, and send guests' packets through it.

    Raises:
        subprocess.CalledProcessError: the kernel cannot filter; `iptables` has printed the reason on standard error.
    """
    for tool, errors in TOOLS.items():
        rules = "".join(f"-A {CHAIN} {rule}\n" for rule in _rules(settings, errors))
        # One transaction that first empties the chain, so that no port is open at any moment.
        subprocess.run([f"{tool}-restore", "--noflush"], input=f"*filter\n:{CHAIN} - [0:0]\n{rules}COMMIT\n", text=True, check=True)
        for jump in _jumps(settings, tool):
            if subprocess.run([tool, "--check", *jump], check=False, capture_output=True).returncode != 0:
                subprocess.run([tool, "--insert", *jump], check=True)


def remove(settings: Settings) -> None:
    """Remove the chain of iptables if it exists. In a network namespace of the site's own, the chain ends with the namespace."""
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
