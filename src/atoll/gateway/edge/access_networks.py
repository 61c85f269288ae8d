"""The access networks of sites, by which an address belongs to a site."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network


class AccessNetworks:
    """The sites whose access networks the cloud's YAML names.

    Args:
        serves: sites by prefix.
    """

    def __init__(self, serves: Mapping[str, str]) -> None:
        self._sites: dict[IPv4Network | IPv6Network, str] = {ip_network(prefix): site for prefix, site in serves.items()}
        lengths = {(network.version, network.prefixlen) for network in self._sites}
        self._lengths = {version: sorted((size for kind, size in lengths if kind == version), reverse=True) for version in (4, 6)}

    def site_of(self, address: IPv4Address | IPv6Address) -> str | None:
        """Return the site with the longest prefix that contains an address; `None` if no prefix does.

        An IPv6 address that stands for an IPv4 address (`::ffff:…`) is that IPv4 address.
        """
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        # `ip_network` would take a small integer for an IPv4 address.
        kind = IPv4Network if address.version == 4 else IPv6Network
        for length in self._lengths[address.version]:
            site = self._sites.get(kind((int(address), length), strict=False))
            if site is not None:
                return site
        return None
