"""Network services for guests: addresses, names and router advertisements."""

import re
import shutil
from collections.abc import Iterator

import pytest
from deployment import until
from landscape import Guest, Landscape
from plugged import Host, Switch, plug


@pytest.fixture(scope="module")
def dual(paris) -> Guest:
    """Boot a guest on a network with IPv4 and with IPv6 by router advertisements (SLAAC)."""
    network, four = paris.make_network("10.4.0.0/24")
    api = paris.api
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    six = paris.neutron("subnet", network_id=network, ip_version=6, cidr="fd00:5::/64", **modes)
    for subnet in (four, six):
        api.expect("network", "PUT", f"/v2.0/routers/{paris.router}/add_router_interface", {"subnet_id": subnet})
    guest = paris.boot("dual", network=network, script="#!/bin/sh\nsleep 3; nslookup dual.atoll.internal; echo asked: names\n")
    yield guest
    guest.delete()


def addresses(guest: Guest) -> dict[str, str]:
    """Return the guest's Neutron addresses by the beginning of their prefix."""
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
    path = f"/v2.0/floatingips/{identifier}/port_forwardings"
    made = paris.api.expect("network", "POST", path, {"port_forwarding": forwarding})["port_forwarding"]["id"]
    paris.await_page(f"{address}:8000", "dual")
    assert paris.page(address, 2.0) == ""
    paris.api.expect("network", "PUT", f"{path}/{made}", {"port_forwarding": {"external_port": 8001}})
    paris.await_page(f"{address}:8001", "dual")
    until(lambda: paris.page(f"{address}:8000", 2.0) == "", "the former port closed", 60)
    paris.api.call("network", "DELETE", f"{path}/{made}")
    until(lambda: paris.page(f"{address}:8001", 2.0) == "", "closed", 60)


@pytest.fixture(scope="module")
def stateful(paris) -> Iterator[str]:
    """Create a network with IPv6 addresses by DHCP and its own DNS domain."""
    network, four = paris.make_network("10.5.0.0/24")
    paris.api.expect("network", "PUT", f"/v2.0/networks/{network}", {"network": {"dns_domain": "shop.example."}})
    modes = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    six = paris.neutron("subnet", network_id=network, ip_version=6, cidr="fd00:6::/64", dns_nameservers=["fd00:6::1"], **modes)
    interfaces = [{"subnet_id": subnet} for subnet in (four, six)]
    for interface in interfaces:
        paris.api.expect("network", "PUT", f"/v2.0/routers/{paris.router}/add_router_interface", interface)
    yield network
    for interface in interfaces:
        paris.api.expect("network", "PUT", f"/v2.0/routers/{paris.router}/remove_router_interface", interface)
    paris.api.call("network", "DELETE", f"/v2.0/networks/{network}")


@pytest.fixture(scope="module")
def given(paris, stateful) -> Iterator[Guest]:
    rule = {"security_group_id": paris.group, "direction": "ingress", "ethertype": "IPv6", "protocol": "ipv6-icmp"}
    identifier = paris.neutron("security_group_rule", **rule)
    guest = paris.boot("given", network=stateful)
    yield guest
    paris.api.call("network", "DELETE", f"/v2.0/security-group-rules/{identifier}")
    guest.delete()


@pytest.fixture(scope="module")
def host(cloud, paris, stateful) -> Iterator[Host]:
    with plug(paris, Switch(cloud, "paris"), "asks", stateful) as made:
        yield made
    paris.api.call("network", "DELETE", f"/v2.0/ports/{made.port}")


def fixed(landscape: Landscape, port: str) -> dict[bool, str]:
    """Return the addresses of a Neutron port; the key is whether it is IPv6."""
    addresses = landscape.api.expect("network", "GET", f"/v2.0/ports/{port}")["port"]["fixed_ips"]
    return {":" in each["ip_address"]: each["ip_address"] for each in addresses}


DHCPV6 = pytest.mark.skipif(shutil.which("dhcpcd") is None, reason="dhcpcd-base is not installed")


@DHCPV6
def test_guest_takes_the_address_that_dhcpv6_gives(paris, given):
    identifier, floating = paris.floating_ip(given)
    address = fixed(paris, given.port)[True]
    until(lambda: address in paris.page(floating), f"address {address}", 60)
    paris.api.call("network", "DELETE", f"/v2.0/floatingips/{identifier}")


CLIENT = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir /run/dhcpcd /var/lib/dhcpcd
exec dhcpcd -6 -B -f "$1" -c /bin/true "$2"
"""
"""A DHCP client that writes its state outside the machine's directories."""


@DHCPV6
def test_host_takes_the_address_that_dhcpv6_gives_and_reaches_others(paris, given, host, tmp_path):
    file = tmp_path / "dhcpcd.conf"
    file.write_text("noipv4\nnoipv6rs\nia_na\n")
    host.start("unshare", "--mount", "sh", "-c", CLIENT, "sh", str(file), host.device)
    address = fixed(paris, host.port)[True]
    until(lambda: f"inet6 {address}/128 " in host.run("ip", "-6", "address", "show", "dev", host.device).stdout, address, 60)
    # The router advertises the prefix.
    until(lambda: "fd00:6::/64" in host.run("ip", "-6", "route").stdout, "a route", 60)
    other = fixed(paris, given.port)[True]
    until(lambda: " 0% packet loss" in host.run("busybox", "ping", "-6", "-c", "2", "-W", "2", other, check=False).stdout, other, 60)


@pytest.mark.parametrize("name", ["given", "given.atoll.internal", "given.shop.example"])
def test_names_are_told_to_any_client(paris, given, host, name):
    """OVN resolves the names, with any name server: plain, in the cloud's domain, and in the network's."""
    addresses = fixed(paris, given.port)
    assert asked(host, name, "a") == [addresses[False]]
    assert asked(host, name, "aaaa") == [addresses[True]]


def test_names_belong_to_addresses(paris, given, host):
    assert "given.atoll.internal" in host.run("busybox", "nslookup", fixed(paris, given.port)[False], "10.5.0.1").stdout


def asked(host: Host, name: str, kind: str) -> list[str]:
    answer = host.run("busybox", "nslookup", f"-type={kind}", name, "10.5.0.1", check=False).stdout
    return re.findall(r"^Address: (\S+)$", answer.partition("Name:")[2], re.MULTILINE)
