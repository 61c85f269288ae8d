"""What networks do for guests besides carrying their packets."""

import re

import pytest
from deployment import until
from landscape import Guest


@pytest.fixture(scope="module")
def dual(paris) -> Guest:
    """A guest on a network with IPv4, and with IPv6 by router advertisements (SLAAC). Debian's busybox-static has no client of DHCPv6."""
    network, four = paris.make_network("10.4.0.0/24")
    api = paris.api
    api.expect("network", "PUT", f"/v2.0/subnets/{four}", {"subnet": {"dns_nameservers": ["10.77.0.129"]}})
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    six = paris.neutron("subnet", network_id=network, ip_version=6, cidr="fd00:5::/64", **modes)
    for subnet in (four, six):
        api.expect("network", "PUT", f"/v2.0/routers/{paris.router}/add_router_interface", {"subnet_id": subnet})
    guest = paris.boot("dual", network=network, script="#!/bin/sh\nsleep 3; nslookup dual.atoll.internal; echo asked: names\n")
    yield guest
    guest.delete()


def addresses(guest: Guest) -> dict[str, str]:
    """Those that Neutron gave it, by the beginning of their prefix."""
    fixed = guest.landscape.api.expect("network", "GET", f"/v2.0/ports/{guest.port}")["port"]["fixed_ips"]
    return {re.split(r"[.:]", each["ip_address"])[1]: each["ip_address"] for each in fixed}


def test_addresses_of_each_kind_are_taken(paris, dual):
    given = addresses(dual)
    identifier, floating = paris.floating_ip(dual)
    paris.await_page(floating, "dual")
    for prefix, address in given.items():
        until(lambda address=address: address in paris.page(floating), f"address {prefix}: {address}", 60)
    paris.api.call("network", "DELETE", f"/v2.0/floatingips/{identifier}")


def test_names_of_ports_are_known(dual):
    assert addresses(dual)["4"] in dual.await_console(r"(?s)Name:.*asked: names").group(0)


def test_port_is_forwarded(paris, dual):
    identifier, address = paris.floating_ip()
    forwarding = {
        "protocol": "tcp",
        "internal_port_id": dual.port,
        "internal_ip_address": addresses(dual)["4"],
        "internal_port": 80,
        "external_port": 8000,
    }
    paris.api.expect("network", "POST", f"/v2.0/floatingips/{identifier}/port_forwardings", {"port_forwarding": forwarding})
    paris.await_page(f"{address}:8000", "dual")
    assert paris.page(address, 2.0) == ""
