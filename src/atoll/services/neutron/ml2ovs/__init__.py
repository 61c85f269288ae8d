"""A site's network of real packets with Neutron's own agents and Open vSwitch; Linux routes and serves DHCP.

It serves features that OVN lacks, such as service function chains. Most sites are better off with OVN, which needs no agents.
"""

from __future__ import annotations

from atoll.services.neutron.ml2ovs import agents
from atoll.services.neutron.ovn import ovsdb, vswitchd

SERVICES = (ovsdb.SERVICE, vswitchd.SERVICE, agents.SERVICE)
"""The services of a site with `network: ovs`."""

PROGRAMS = (
    "ovsdb-server", "ovsdb-tool", "ovsdb-client", "ovs-vsctl", "ovs-vswitchd", "haproxy", "iptables", "ip", "sysctl", "dnsmasq",
    "dhcp_release", "conntrack", "radvd", "arping",
)  # fmt: skip
"""The programs that `network: ovs` needs."""

__all__ = ["PROGRAMS", "SERVICES"]
