"""Network services that come with Neutron itself; every site has most of them."""

from __future__ import annotations

from atoll.services.neutron.network_services.contract import Implementation, NetworkService

ALL = ("ovn", "ovs", "fake")


def _everywhere(plugin: str) -> dict[str, Implementation]:
    return dict.fromkeys(ALL, Implementation(plugins=(plugin,)))


SEGMENTS = NetworkService(
    "segments", "networks of several segments, whose addresses Neutron reports to Placement", _everywhere("segments"), ALL
)

NETWORK_SEGMENT_RANGE = NetworkService(
    "network-segment-range", "ranges of segment ids that an administrator gives to projects", _everywhere("network_segment_range")
)

QOS = NetworkService(
    "qos",
    "limits and marks for the packets of ports, networks and floating IPs",
    {
        "ovn": Implementation(plugins=("qos",)),
        "ovs": Implementation(plugins=("qos",), extensions={"ovs-agent": ("qos",), "l3-agent": ("fip_qos", "gateway_ip_qos")}, rpc=True),
        "fake": Implementation(plugins=("qos",)),
    },
    ALL,
)

TRUNK = NetworkService(
    "trunk",
    "ports that carry several networks, told apart by VLAN tags",
    {"ovn": Implementation(plugins=("trunk",)), "ovs": Implementation(plugins=("trunk",), rpc=True)},
    ("ovn", "ovs"),
)

PORT_FORWARDING = NetworkService(
    "port-forwarding",
    "single ports of a floating IP that lead to guests",
    {
        "ovn": Implementation(plugins=("port_forwarding",)),
        "ovs": Implementation(plugins=("port_forwarding",), extensions={"l3-agent": ("port_forwarding",)}, rpc=True),
        "fake": Implementation(plugins=("port_forwarding",)),
    },
    ALL,
)

METERING = NetworkService(
    "metering",
    "counters of the packets that routers forward",
    {"fake": Implementation(plugins=("metering",)), "ovs": Implementation(plugins=("metering",), rpc=True)},
    ("fake",),
)

LOG = NetworkService(
    "log",
    "a line in the log for each packet that a security group allows or drops",
    {"ovn": Implementation(plugins=("log",)), "ovs": Implementation(plugins=("log",), extensions={"ovs-agent": ("log",)}, rpc=True)},
)
