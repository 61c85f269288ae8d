"""A whole tenancy over three sites, by openstacksdk: `with_openstacksdk.py make|remove NAME IMAGE`, with $OS_CLIENT_CONFIG_FILE.

All requests go to the gateway of the one site that the entry `member` leads to; `admin` makes the flavor.
"""

from __future__ import annotations

import sys
from typing import Any

import openstack

SITES = ("brest", "metz", "pau")
FLAVOR = {"ram": 64, "vcpus": 1, "disk": 1}
RULES: tuple[dict[str, Any], ...] = (
    {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "192.0.2.0/24"},
    {"protocol": "tcp", "port_range_min": 80, "port_range_max": 443},
    {"protocol": "icmp"},
)
WAIT_S = 120
ROUTED = SITES[:2]
"""Sites with a router of the network: a floating IP of a server needs one where the server is."""


class Tenancy:
    """The resources of a tenant.

    Args:
        name: the name of all resources.
        image: the file with the image's data.
    """

    def __init__(self, name: str, image: str) -> None:
        self.name = name
        self.image = image
        self.cloud = openstack.connect(cloud="member")
        self.admin = openstack.connect(cloud="admin")
        self.servers = [f"{name}-{site}" for site in SITES]

    def make(self) -> None:
        """Create the resources one by one, and find each by its name."""
        cloud, name = self.cloud, self.name
        self.admin.compute.create_flavor(name=name, **FLAVOR)
        cloud.compute.create_keypair(name=name)
        cloud.create_image(name, filename=self.image, disk_format="raw", container_format="bare", wait=True, timeout=WAIT_S)
        network = cloud.network.create_network(name=name)
        subnet = cloud.network.create_subnet(name=name, network_id=network.id, ip_version=4, cidr="10.20.0.0/24")
        public = {site: cloud.network.find_network(f"public-{site}", ignore_missing=False) for site in ROUTED}
        for site in ROUTED:
            gateway = {"network_id": public[site].id}
            router = cloud.network.create_router(name=f"{name}-{site}", external_gateway_info=gateway, availability_zone_hints=[site])
            cloud.network.add_interface_to_router(router, subnet_id=subnet.id)
        group = cloud.network.create_security_group(name=name, description="before")
        for rule in RULES:
            cloud.network.create_security_group_rule(security_group_id=group.id, direction="ingress", **rule)
        cloud.network.create_security_group_rule(security_group_id=group.id, direction="ingress", remote_group_id=group.id)
        port = cloud.network.create_port(name=name, network_id=network.id, security_group_ids=[group.id])
        apart = cloud.compute.create_server_group(name=name, policy="soft-anti-affinity")
        common = {"image": name, "flavor": name, "key_name": name, "auto_ip": False}
        hints = {"group": apart.id}
        cloud.create_server(self.servers[0], nics=[{"port-id": port.id}], scheduler_hints=hints, availability_zone=SITES[0], **common)
        for server, site in list(zip(self.servers, SITES, strict=True))[1:]:
            cloud.create_server(server, network=name, security_groups=[name], availability_zone=site, **common)
        for server in self.servers:
            self._await(cloud.compute.find_server(server, ignore_missing=False), "ACTIVE")
        (there,) = cloud.compute.server_interfaces(cloud.compute.find_server(self.servers[1]))
        for site, target in zip(ROUTED, (port.id, there.port_id), strict=True):
            address = cloud.network.create_ip(floating_network_id=public[site].id, port_id=target, description=name)
            assert address.port_id == target

    def _await(self, server: Any, status: str) -> None:
        self.cloud.compute.wait_for_server(server, status, interval=0.2, wait=WAIT_S)

    def look(self, rules: int) -> None:
        """Check that every resource is in its list, is found by its name and shown by its id.

        Args:
            rules: the number of the security group's ingress rules.
        """
        cloud, name = self.cloud, self.name
        found = {server.name: server for server in cloud.compute.servers() if server.name in self.servers}
        assert set(found) == set(self.servers), found
        for server, site in zip(self.servers, SITES, strict=True):
            one = cloud.compute.find_server(server, ignore_missing=False)
            assert (one.id, one.status, one.availability_zone) == (found[server].id, "ACTIVE", site), one
            assert [group["name"] for group in one.security_groups] == [name], one.security_groups
            assert one.key_name == name
            assert list(one.addresses) == [name], one.addresses
            (interface,) = cloud.compute.server_interfaces(one)
            assert cloud.network.get_port(interface.port_id).device_id == one.id
        self._look_at_parts(rules)

    def _look_at_parts(self, wanted: int) -> None:
        cloud, name = self.cloud, self.name
        network = cloud.network.find_network(name, ignore_missing=False)
        subnet = cloud.network.find_subnet(name, ignore_missing=False)
        assert (subnet.network_id, network.subnet_ids) == (network.id, [subnet.id])
        for site in ROUTED:
            router = cloud.network.find_router(f"{name}-{site}", ignore_missing=False)
            interfaces = cloud.network.ports(device_id=router.id, device_owner="network:router_interface")
            assert [port.network_id for port in interfaces] == [network.id]
        group = cloud.network.find_security_group(name, ignore_missing=False)
        rules = list(cloud.network.security_group_rules(security_group_id=group.id, direction="ingress"))
        assert len(rules) == wanted, rules
        assert {rule.id for rule in rules} <= {rule["id"] for rule in group.security_group_rules}
        addresses = {address.port_id: address.fixed_ip_address for address in cloud.network.ips(description=name)}
        assert len(addresses) == len(ROUTED)
        for port, address in addresses.items():
            assert cloud.network.get_port(port).fixed_ips[0]["ip_address"] == address
        assert cloud.network.find_port(name, ignore_missing=False).id in addresses
        apart = cloud.compute.find_server_group(name, ignore_missing=False)
        assert apart.member_ids == [cloud.compute.find_server(self.servers[0]).id]
        assert cloud.image.find_image(name, ignore_missing=False).status == "active"
        assert cloud.compute.find_flavor(name, ignore_missing=False).ram == FLAVOR["ram"]
        assert cloud.compute.find_keypair(name, ignore_missing=False).name == name

    def change(self) -> None:
        """Change one or more fields of each resource."""
        cloud, name = self.cloud, self.name
        network = cloud.network.find_network(name)
        cloud.network.update_network(network, description="after")
        cloud.network.set_tags(network, ["one", "two"])
        cloud.network.update_subnet(cloud.network.find_subnet(name), dns_nameservers=["192.0.2.53"])
        group = cloud.network.find_security_group(name)
        cloud.network.update_security_group(group, description="after")
        cloud.network.create_security_group_rule(security_group_id=group.id, direction="ingress", ethertype="IPv6", protocol="udp")
        cloud.image.update_image(cloud.image.find_image(name), os_distro="none")
        for server in map(cloud.compute.find_server, self.servers):
            cloud.compute.update_server(server, description="after")
            cloud.compute.set_server_metadata(server, part="after")
            cloud.compute.stop_server(server)
            self._await(server, "SHUTOFF")
            cloud.compute.start_server(server)
            self._await(server, "ACTIVE")
            cloud.compute.reboot_server(server, "SOFT")
            self._await(server, "ACTIVE")
            assert cloud.compute.get_server(server.id).metadata == {"part": "after"}
        network = cloud.network.get_network(network.id)
        assert (network.description, sorted(network.tags)) == ("after", ["one", "two"])
        assert cloud.network.get_security_group(group.id).description == "after"

    def remove(self) -> None:
        """Delete the resources one by one."""
        cloud, name = self.cloud, self.name
        for address in cloud.network.ips(description=name):
            cloud.network.delete_ip(address, ignore_missing=False)
        servers = [cloud.compute.find_server(server, ignore_missing=False) for server in self.servers]
        for server in servers:
            cloud.compute.delete_server(server, ignore_missing=False)
        for server in servers:
            cloud.compute.wait_for_delete(server, interval=0.2, wait=WAIT_S)
        cloud.compute.delete_server_group(cloud.compute.find_server_group(name), ignore_missing=False)
        cloud.network.delete_port(cloud.network.find_port(name), ignore_missing=False)
        subnet = cloud.network.find_subnet(name)
        for site in ROUTED:
            router = cloud.network.find_router(f"{name}-{site}")
            cloud.network.remove_interface_from_router(router, subnet_id=subnet.id)
            cloud.network.delete_router(router, ignore_missing=False)
        cloud.network.delete_subnet(subnet, ignore_missing=False)
        cloud.network.delete_network(cloud.network.find_network(name), ignore_missing=False)
        cloud.network.delete_security_group(cloud.network.find_security_group(name), ignore_missing=False)
        assert cloud.delete_image(name, wait=True, timeout=WAIT_S)
        assert cloud.delete_keypair(name)
        self.admin.compute.delete_flavor(self.admin.compute.find_flavor(name), ignore_missing=False)
        assert not [server for server in cloud.compute.servers() if server.name in self.servers]
        assert cloud.network.find_network(name) is None


def main() -> None:
    """Create, check and change the resources, or delete them."""
    what, name, image = sys.argv[1:]
    tenancy = Tenancy(name, image)
    if what == "make":
        tenancy.make()
        tenancy.look(rules=4)
        tenancy.change()
        tenancy.look(rules=5)
    else:
        tenancy.remove()


if __name__ == "__main__":
    main()
