"""A site's network of real packets: Open vSwitch and OVN, as Debian packages them.

One database server holds all three databases: what the switch is told, what Neutron wants (northbound), and what that means for the switch
(southbound). All of it is reached through Unix sockets in the site's own directory, so that any number of sites fit on a machine.
"""

from __future__ import annotations

from atoll.services.ovn import controller, northd, ovsdb, vswitchd

SERVICES = (ovsdb.SERVICE, vswitchd.SERVICE, northd.SERVICE, controller.SERVICE)
"""What a site with `network: ovn` runs besides."""

PROGRAMS = (
    "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-vswitchd", "ovn-northd", "ovn-controller", "ovn-appctl", "haproxy", "iptables", "ip",
)  # fmt: skip
"""What must be installed for it."""

__all__ = ["PROGRAMS", "SERVICES"]
