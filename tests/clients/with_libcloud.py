"""A whole tenancy over three sites, by Apache Libcloud: `with_libcloud.py make|remove NAME`, with $OS_CLIENT_CONFIG_FILE.

Libcloud can make neither images nor flavors, so those called NAME are there already. It can't give a new server a port, and so gives it a
second one. Nor can it say at which site a router is to be: that at metz is made through metz's gateway, all else through brest's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState, Provider

SITES = ("brest", "metz", "pau")
WAIT_S = 120
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3l5GjD0uAOWFdZ1pM+0rOAo4cWCvHHcZ7mjJv3NlbS"


def driver(entry: str) -> Any:
    """Return the driver for an entry of the clouds.yaml."""
    clouds = yaml.safe_load(Path(os.environ["OS_CLIENT_CONFIG_FILE"]).read_text(encoding="utf-8"))
    cloud = clouds["clouds"][entry]
    return get_driver(Provider.OPENSTACK)(  # for the latest APIs, which are not its default
        cloud["auth"]["username"],
        cloud["auth"]["password"],
        ex_force_auth_url=cloud["auth"]["auth_url"].removesuffix("/v3"),
        api_version="2.2",
        ex_force_auth_version="3.x_password",
        ex_tenant_name=cloud["auth"]["project_name"],
        ex_force_service_region=cloud["region_name"],
    )


def until(look: Callable[[], bool]) -> None:
    """Wait until a condition holds for which Libcloud itself does not wait."""
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.5)


class Tenancy:
    """The resources of a tenant.

    Args:
        name: the name of all resources.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cloud = driver("member")
        self.metz = driver("metz")
        self.servers = [f"{name}-{site}" for site in SITES]

    def named(self, items: list[Any], name: str = "") -> Any:
        """Return the only item of a list with a name, by default the tenancy's."""
        (found,) = [item for item in items if item.name == (name or self.name)]
        return found

    def nodes(self) -> dict[str, Any]:
        """Return the servers by name."""
        return {node.name: node for node in self.cloud.list_nodes() if node.name in self.servers}

    def make(self) -> None:
        """Create the resources one by one."""
        cloud, name = self.cloud, self.name
        cloud.import_key_pair_from_string(name, PUBLIC_KEY)
        network = cloud.ex_create_network(name)
        subnet = cloud.ex_create_subnet(name, network, "10.40.0.0/24")
        pools = cloud.ex_list_floating_ip_pools()
        group = cloud.ex_create_security_group(name, "of the tenancy")
        cloud.ex_create_security_group_rule(group, "tcp", 22, 22, cidr="192.0.2.0/24")
        cloud.ex_create_security_group_rule(group, "tcp", 80, 443, source_security_group=group)
        port = cloud.ex_create_port(network, name=name, description="made first")
        apart = cloud.ex_add_server_group(name, "anti-affinity")
        self._boot(group, network, apart)
        for through, site in ((cloud, "brest"), (self.metz, "metz")):
            router = through.ex_create_router(
                f"{name}-{site}", external_gateway_info={"network_id": self.named(pools, f"public-{site}").id}
            )
            assert through.ex_add_router_subnet(router, subnet)
        for number, (through, site) in enumerate(((cloud, "brest"), (self.metz, "metz"))):
            node, address = self.nodes()[self.servers[number]], through.ex_create_floating_ip(f"public-{site}")
            assert through.ex_attach_floating_ip_to_node(node, address)
        node = self.nodes()[self.servers[0]]
        assert cloud.ex_attach_port_interface(node, port)
        until(lambda: port.id in {each.id for each in cloud.ex_get_node_ports(node)})

    def _boot(self, group: Any, network: Any, apart: Any) -> None:
        cloud = self.cloud
        image, size = self.named(cloud.list_images()), self.named(cloud.list_sizes())
        nodes = []
        for server, site in zip(self.servers, SITES, strict=True):
            hints = {"group": apart.id} if site == SITES[0] else None
            node = cloud.create_node(
                server, size, image, ex_keyname=self.name, ex_security_groups=[group], networks=[network],
                ex_availability_zone=site, ex_os_scheduler_hints=hints, ex_metadata={"of": self.name},
            )  # fmt: skip
            nodes.append(node)
        assert {node.name for node, _addresses in cloud.wait_until_running(nodes, timeout=WAIT_S, ssh_interface="private_ips")} == set(
            self.servers
        )

    def look(self) -> None:
        """Check that every resource is in its list."""
        cloud, name = self.cloud, self.name
        nodes = self.nodes()
        assert set(nodes) == set(self.servers)
        for server, site in zip(self.servers, SITES, strict=True):
            node = cloud.ex_get_node_details(nodes[server].id)
            assert (node.state, node.extra["availability_zone"], node.extra["key_name"]) == (NodeState.RUNNING, site, name)
            assert node.private_ips
            assert name in {group.name for group in cloud.ex_get_node_security_groups(node)}
        network = self.named(cloud.ex_list_networks())
        assert self.named(cloud.ex_list_subnets()).network_id == network.id
        assert cloud.ex_get_network(network.id).name == name
        assert len(self.named(cloud.ex_list_security_groups()).rules) >= 2
        assert {f"{name}-brest", f"{name}-metz"} <= {router.name for router in cloud.ex_list_routers()}
        assert cloud.get_key_pair(name).name == name
        assert self.named(cloud.ex_list_server_groups())
        holders = {address.get_node_id() for address in cloud.ex_list_floating_ips()}
        assert {nodes[server].id for server in self.servers[:2]} <= holders

    def change(self) -> None:
        """Change all fields that Libcloud can change."""
        cloud = self.cloud
        cloud.ex_update_subnet(self.named(cloud.ex_list_subnets()), description="after", dns_nameservers=["192.0.2.53"])
        for node in self.nodes().values():
            assert cloud.ex_set_metadata(node, {"part": "after"})["part"] == "after"
            assert cloud.stop_node(node)
            until(lambda node=node: cloud.ex_get_node_details(node.id).state == NodeState.STOPPED)
            assert cloud.start_node(node)
            until(lambda node=node: cloud.ex_get_node_details(node.id).state == NodeState.RUNNING)
            assert cloud.reboot_node(node)
            until(lambda node=node: cloud.ex_get_node_details(node.id).state == NodeState.RUNNING)

    def remove(self) -> None:
        """Delete the resources one by one."""
        cloud, name = self.cloud, self.name
        port = next(port for port in cloud.ex_list_ports() if port.extra["name"] == name)
        for address in cloud.ex_list_floating_ips():
            assert cloud.ex_delete_floating_ip(address)
        for node in self.nodes().values():
            assert cloud.destroy_node(node)
        until(lambda: not self.nodes())
        assert cloud.ex_delete_port(port)
        assert cloud.ex_del_server_group(self.named(cloud.ex_list_server_groups()))
        subnet = self.named(cloud.ex_list_subnets())
        for site in SITES[:2]:
            router = self.named(cloud.ex_list_routers(), f"{name}-{site}")
            assert cloud.ex_del_router_subnet(router, subnet)
            assert cloud.ex_delete_router(router)
        assert cloud.ex_delete_subnet(subnet)
        assert cloud.ex_delete_network(self.named(cloud.ex_list_networks()))
        assert cloud.ex_delete_security_group(self.named(cloud.ex_list_security_groups()))
        assert cloud.delete_key_pair(cloud.get_key_pair(name))


def main() -> None:
    """Create, check and change the resources, or delete them."""
    what, name = sys.argv[1:]
    tenancy = Tenancy(name)
    if what == "make":
        tenancy.make()
        tenancy.look()
        tenancy.change()
        tenancy.look()
    else:
        tenancy.remove()


if __name__ == "__main__":
    main()
