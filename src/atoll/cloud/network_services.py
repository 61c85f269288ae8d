"""The names of the network services that a site may have, and the data planes with which they work.

`atoll.services.neutron.network_services` defines each of them; a test checks that both agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.cloud.model import Site

NETWORKS: dict[str, tuple[str, ...]] = {
    "bgp": ("ovn", "ovs"),
    "bgpvpn": ("ovs",),
    "firewall": ("ovn", "ovs"),
    "load-balancer": ("ovn",),
    "log": ("ovn", "ovs"),
    "metering": ("ovs", "fake"),
    "network-segment-range": ("ovn", "ovs", "fake"),
    "port-forwarding": ("ovn", "ovs", "fake"),
    "qos": ("ovn", "ovs", "fake"),
    "segments": ("ovn", "ovs", "fake"),
    "sfc": ("ovs",),
    "tap": ("ovn", "ovs"),
    "trunk": ("ovn", "ovs"),
    "vpn": ("ovn", "ovs"),
}
"""By name of a network service, the data planes with which it works. A service that acts only on packets does not work with `fake`."""


LISTENING: dict[str, int] = {"load-balancer": 9876}
"""The standard port of each service that has an API of its own. Only a site with an address of its own has that port."""


def complaints_of_network_services(sites: Sequence[Site], *, emulated: bool) -> Iterator[tuple[int, str]]:
    """Yield the errors in the network services of a cloud's sites, each as the index of the site and the message.

    Args:
        sites: all sites of the cloud. If a site has no data plane yet, its services are not compared with one.
        emulated: whether each site has a network of its own.
    """
    for index, site in enumerate(sites):
        for name in site.network_services:
            if not site.services.neutron:
                yield index, f"{site.name} runs no Neutron: expected no `network_services`"
            elif site.network is not None and site.network not in NETWORKS[name]:
                yield index, _misfit(name, site.network)
            elif name in LISTENING and not emulated:
                yield index, f"{name} needs a port that a site has only in a network of its own: expected a `topology`, or no `{name}`"


def unknown(name: str) -> str:
    """Return the message for an unknown name of a network service."""
    close = get_close_matches(name, NETWORKS, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"no network service is called {name}{meant}: expected one of {', '.join(NETWORKS)}"


def _misfit(name: str, network: str) -> str:
    expected = " or ".join(f"`network: {each}`" for each in NETWORKS[name])
    return f"{name} does not work with `network: {network}`: expected {expected}, or no `{name}`"
