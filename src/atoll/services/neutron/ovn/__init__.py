"""A site's network of real packets with Open vSwitch and OVN, as Debian packages them.

One database server holds all three databases: the switch's, OVN's northbound one, which Neutron writes, and the southbound one, which OVN
derives from it. All programs connect to it through Unix sockets in the site's own directory, so that a machine can hold any number of
sites.
"""

from __future__ import annotations

from atoll.services.neutron.ovn import controller, northd, ovsdb, vswitchd

SERVICES = (ovsdb.SERVICE, vswitchd.SERVICE, northd.SERVICE, controller.SERVICE)
"""The services of a site with `network: ovn`."""

PROGRAMS = (
    "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-vswitchd", "ovn-northd", "ovn-controller", "ovn-appctl", "haproxy", "iptables", "ip",
)  # fmt: skip
"""The programs that `network: ovn` needs."""

__all__ = ["PROGRAMS", "SERVICES"]
