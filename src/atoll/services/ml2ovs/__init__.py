"""A site's network of real packets with Neutron's own agents: Open vSwitch does what they say, and Linux routes and answers DHCP.

It is there for what OVN can't serve, such as service function chains. Most sites are better off with OVN, which needs no agents.
"""

from __future__ import annotations

from atoll.services.ml2ovs import agents
from atoll.services.ovn import ovsdb, vswitchd

SERVICES = (ovsdb.SERVICE, vswitchd.SERVICE, agents.SERVICE)
"""What a site with `network: ovs` runs besides."""

PROGRAMS = (
    "ovsdb-server", "ovsdb-tool", "ovsdb-client", "ovs-vsctl", "ovs-vswitchd", "haproxy", "iptables", "ip", "sysctl", "dnsmasq",
    "dhcp_release", "conntrack", "radvd", "arping",
)  # fmt: skip
"""What must be installed for it."""

__all__ = ["PROGRAMS", "SERVICES"]
