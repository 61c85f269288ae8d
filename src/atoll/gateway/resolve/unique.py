"""The table of upstream's uniqueness rules, with the scope in which each one holds in a cloud of many sites.

The rules are the unique constraints and natural keys of the databases of Nova, Neutron and Glance: `service.table(columns)`, or `[columns]`
for a primary key. A test compares them with the installed versions. docs/reference/unique-names.md is generated from this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from atoll.gateway.request.call import Call
from atoll.gateway.request.headers import microversion
from atoll.gateway.resolve.routes import Resource


class How(Enum):
    """The scope of a uniqueness rule in the cloud."""

    CLOUD = "In the whole cloud: before a resource is created, the gateway asks all reachable sites whether they have its name or id"
    COPY = "Within a resource that has copies: a change is made at all sites that have a copy, and each of them applies the rule"
    PART = "Within a resource of one site: that site applies the rule"
    SITE = "At each site: equal values at two sites belong to different resources, and no list shows the two as one"
    MADE = "Without the gateway: the site's service generates these ids, numbers and addresses itself, or only its own processes use them"


@dataclass(frozen=True)
class Rule:
    """One uniqueness rule, or several of one kind.

    Attributes:
        what: a description of the unique value, for the documentation.
        how: the scope of the rule in the cloud.
        upstream: upstream's constraints.
        refusal: the message of upstream's 409 with `{}` for the value; for rules of the whole cloud only.
    """

    what: str
    how: How
    upstream: tuple[str, ...]
    refusal: str = ""


@dataclass(frozen=True, order=True)
class Name:
    """A name or id that must be unique in the whole cloud.

    Attributes:
        kind: a key of `NAME_KINDS`.
        value: the name or id.
        owner: the id of the user among whose names it is unique; empty if it is unique among all users' names.
    """

    kind: str
    value: str
    owner: str = ""


@dataclass(frozen=True)
class NameKind:
    """A kind of names that are unique in the whole cloud.

    Attributes:
        service: the service that enforces the rule.
        collection: the path of the collection.
        key: the key of a single resource in an answer; empty if the answer is the resource itself.
        refusal: the message of upstream's 409 with `{}` for the name.
        lasting: the fields that are equal if the resources of two sites are copies of one.
    """

    service: str
    collection: str
    key: str
    refusal: str
    lasting: tuple[str, ...]


KEY_PAIR, FLAVOR_ID, FLAVOR_NAME, IMAGE_ID = "key pair", "flavor", "flavor name", "image"

_FLAVOR = ("id", "name", "ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral", "rxtx_factor", "os-flavor-access:is_public")

NAME_KINDS: Mapping[str, NameKind] = {
    KEY_PAIR: NameKind("compute", "/v2.1/os-keypairs", "keypair", "Key pair '{}' already exists.", ("public_key", "type")),
    FLAVOR_ID: NameKind("compute", "/v2.1/flavors", "flavor", "Flavor with ID {} already exists.", _FLAVOR),
    FLAVOR_NAME: NameKind("compute", "/v2.1/flavors", "flavor", "Flavor with name {} already exists.", _FLAVOR),
    IMAGE_ID: NameKind(
        "image", "/v2/images", "", "Image ID {} already exists!", ("owner", "os_hash_value", "disk_format", "container_format")
    ),
    **{
        item.replace("_", " "): NameKind(
            "network", f"/v2.0/{collection}", item, f"There is a {item} with id {{}} already.", ("id", "project_id")
        )
        for collection, item in (
            ("networks", "network"),
            ("subnets", "subnet"),
            ("ports", "port"),
            ("routers", "router"),
            ("security-groups", "security_group"),
            ("security-group-rules", "security_group_rule"),
        )
    },
}
"""The kinds of names about which the gateway asks all sites; about ids of images and of Neutron's resources, only if an administrator
gives the id."""

USERS_OF_KEY_PAIRS = (2, 10)
"""The first microversion of Nova in which a request may name the user of a key pair."""


TAKING = frozenset(
    (
        *(("compute", "keypairs"), ("compute", "flavors"), ("image", "images")),
        *(("network", f"{kind.key}s") for kind in NAME_KINDS.values() if kind.service == "network"),
    )
)
"""Services and keys of the resources that may have a name that is unique in the whole cloud. Neutron's flavors have none."""


def wanted(call: Call, resource: Resource) -> list[Name]:
    """Return the names of new resources that must be unique in the whole cloud; most have none, because the service assigns the id.

    Args:
        call: the client's POST.
        resource: the type of the new resources.
    """
    if (resource.service, resource.key) not in TAKING or not isinstance(call.body, bytes):
        return []
    if resource.service != "compute" and b'"id"' not in call.body:
        return []
    try:
        body = call.value
        things = [body] if resource.service == "image" else [body[resource.item]] if resource.item in body else body[resource.key]
        return sorted({name for thing in things for name in _names(call, resource, thing)})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # malformed: the service reports the error


def _names(call: Call, resource: Resource, thing: Mapping[str, Any]) -> Iterator[Name]:
    if resource.key == "keypairs":
        other = thing.get("user_id") if microversion(call.headers) >= USERS_OF_KEY_PAIRS else None
        owner = other or call.user
        if owner and isinstance(owner, str):
            yield Name(KEY_PAIR, str(thing["name"]).strip(), owner)
    elif resource.key == "flavors":
        yield Name(FLAVOR_NAME, str(thing["name"]).strip())
        if thing.get("id") not in {None, "auto"}:
            yield Name(FLAVOR_ID, str(thing["id"]))
    elif isinstance(thing.get("id"), str):
        yield Name(IMAGE_ID if resource.service == "image" else resource.item.replace("_", " "), thing["id"])


RULES: tuple[Rule, ...] = (
    Rule("The name of a key pair, among those of a user", How.CLOUD, ("nova_api.key_pairs(user_id, name)",), NAME_KINDS[KEY_PAIR].refusal),
    Rule("The id of a flavor", How.CLOUD, ("nova_api.flavors(flavorid)",), NAME_KINDS[FLAVOR_ID].refusal),
    Rule("The name of a flavor", How.CLOUD, ("nova_api.flavors(name)",), NAME_KINDS[FLAVOR_NAME].refusal),
    Rule("The id of an image, if an administrator gives it", How.CLOUD, ("glance.images[id]",), NAME_KINDS[IMAGE_ID].refusal),
    Rule(
        "The id of a network, subnet, port, router, security group or rule, if an administrator gives it (extension `given-id`)",
        How.CLOUD,
        (
            *("neutron.networks[id]", "neutron.subnets[id]", "neutron.ports[id]", "neutron.routers[id]", "neutron.securitygroups[id]"),
            *("neutron.securitygrouprules[id]", "neutron.ports(id, network_id)"),
        ),
        "There is a network with id {} already.",
    ),
    Rule(
        "An extra spec of a flavor; a project's access to a flavor",
        How.COPY,
        ("nova_api.flavor_extra_specs(flavor_id, key)", "nova_api.flavor_projects(flavor_id, project_id)"),
    ),
    Rule(
        "A member, a property and a cached copy of an image",
        How.COPY,
        (
            *("glance.image_members(image_id, member, deleted_at)", "glance.image_properties(image_id, name)"),
            "glance.cached_images(image_id, node_reference_id)",
        ),
    ),
    Rule(
        "An RBAC policy for a resource, a project and an action",
        How.COPY,
        (
            *(
                "neutron.addressgrouprbacs(target_project, object_id, action)",
                "neutron.addressscoperbacs(target_project, object_id, action)",
            ),
            *("neutron.networkrbacs(target_project, object_id, action)", "neutron.qospolicyrbacs(target_project, object_id, action)"),
            *(
                "neutron.securitygrouprbacs(target_project, object_id, action)",
                "neutron.subnetpoolrbacs(target_project, object_id, action)",
            ),
        ),
    ),
    Rule(
        "Name servers, host routes and service types of a subnet; tags of any resource; the settings of a network or a group",
        How.COPY,
        (
            *("neutron.dnsnameservers[address, subnet_id]", "neutron.subnetroutes[subnet_id, destination, nexthop]"),
            *("neutron.subnet_service_types[subnet_id, service_type]", "neutron.subnet_dns_publish_fixed_ips[subnet_id]"),
            *(
                "neutron.tags[standard_attr_id, tag]",
                "neutron.networkdnsdomains[network_id]",
                "neutron.networksecuritybindings[network_id]",
            ),
            *("neutron.externalnetworks[network_id]", "neutron.networkpvlan[network_id]", "neutron.evpn_networks[network_id]"),
            *("neutron.qos_network_policy_bindings(network_id)", "neutron.qos_network_policy_bindings[policy_id, network_id]"),
        ),
    ),
    Rule(
        "A MAC address and an IP address in a network: each site has a part of its own of a network, until networks span sites",
        How.SITE,
        (
            *("neutron.ports(network_id, mac_address)", "neutron.ipallocations[ip_address, subnet_id, network_id]"),
            "neutron.ipamallocations[ip_address, ipam_subnet_id]",
        ),
    ),
    Rule(
        "The group `default`, the default statefulness and the auto-allocated topology of a project",
        How.SITE,
        (
            *("neutron.default_security_group[project_id]", "neutron.security_groups_default_statefulness(project_id)"),
            *("neutron.auto_allocated_topologies[project_id]", "neutron.qos_policies_default[project_id]"),
        ),
    ),
    Rule(
        "A quota of a project or user",
        How.SITE,
        (
            *("nova.quotas(project_id, resource, deleted)", "nova.project_user_quotas(user_id, project_id, resource, deleted)"),
            *("nova_api.quotas(project_id, resource)", "nova_api.project_user_quotas(user_id, project_id, resource)"),
            "neutron.quotas(project_id, resource)",
        ),
    ),
    Rule(
        "A host aggregate by its name, and its hosts and metadata",
        How.SITE,
        ("nova_api.aggregates(name)", "nova_api.aggregate_hosts(host, aggregate_id)", "nova_api.aggregate_metadata(aggregate_id, key)"),
    ),
    Rule(
        "Namespaces of metadata definitions, and their contents",
        How.SITE,
        (
            *("glance_metadef.metadef_namespaces(namespace)", "glance_metadef.metadef_objects(namespace_id, name)"),
            *("glance_metadef.metadef_properties(namespace_id, name)", "glance_metadef.metadef_tags(namespace_id, name)"),
            *(
                "glance_metadef.metadef_resource_types(name)",
                "glance_metadef.metadef_namespace_resource_types[resource_type_id, namespace_id]",
            ),
        ),
    ),
    Rule(
        "Segments, ranges and numbers of the site's physical networks",
        How.SITE,
        (
            "neutron.networksegments(network_id, network_type, physical_network, segment_index)",
            "neutron.network_segment_ranges(default, network_type, physical_network, minimum, maximum)",
            *("neutron.segmenthostmappings[segment_id, host]", "neutron.ml2_flat_allocations[physical_network]"),
            *("neutron.ml2_vlan_allocations[physical_network, vlan_id]", "neutron.ml2_geneve_allocations[geneve_vni]"),
            *("neutron.ml2_gre_allocations[gre_id]", "neutron.ml2_vxlan_allocations[vxlan_vni]"),
            *("neutron.vlan_allocations(vlan_id, physnet)", "neutron.vni_allocations(vni, physnet)"),
            *("neutron.vni_vlan_mapping(vlan_allocation_id)", "neutron.vni_vlan_mapping(vni_allocation_id)"),
            *("neutron.evpn_l3_instances(mapping_id)", "neutron.evpn_l3_instances[router_id]", "neutron.evpn_advertised_ports[port_id]"),
            "neutron.subnet_bgp_leak_routes[subnet_id]",
        ),
    ),
    Rule(
        "Tags and virtual devices of a server, and the shares that it mounts",
        How.PART,
        ("nova.tags[resource_id, tag]", "nova.share_mapping(instance_uuid, share_id)", "nova.share_mapping(instance_uuid, tag)"),
    ),
    Rule(
        "Settings and addresses of a port",
        How.PART,
        (
            *("neutron.allowedaddresspairs[port_id, mac_address, ip_address]", "neutron.extradhcpopts(port_id, opt_name, ip_version)"),
            *("neutron.portdataplanestatuses[port_id]", "neutron.portdeviceprofiles[port_id]", "neutron.portdnses[port_id]"),
            *("neutron.porthardwareoffloadtype[port_id]", "neutron.porthints[port_id]", "neutron.portnumaaffinitypolicies[port_id]"),
            *("neutron.portpvlan[port_id]", "neutron.portsecuritybindings[port_id]", "neutron.porttrusted[port_id]"),
            *("neutron.portuplinkstatuspropagation[port_id]", "neutron.qos_port_policy_bindings(port_id)"),
            *("neutron.qos_port_policy_bindings[policy_id, port_id]", "neutron.securitygroupportbindings[port_id, security_group_id]"),
            *("neutron.ml2_port_bindings[port_id, host]", "neutron.ml2_distributed_port_bindings[port_id, host]"),
            "neutron.ml2_port_binding_levels[port_id, host, level]",
        ),
    ),
    Rule(
        "Ports, routes and helpers of a router; port forwardings, proxies and names of a floating IP; associations of a local IP",
        How.PART,
        (
            *(
                "neutron.routerports(port_id)",
                "neutron.routerports[router_id, port_id]",
                "neutron.routerroutes[router_id, destination, nexthop]",
            ),
            *("neutron.router_extra_attributes[router_id]", "neutron.router_ndp_proxy_state[router_id]"),
            *("neutron.conntrack_helpers(router_id, protocol, port, helper)", "neutron.ndp_proxies(router_id, ip_address)"),
            *("neutron.qos_router_gw_policy_bindings(router_id)", "neutron.qos_router_gw_policy_bindings[policy_id, router_id]"),
            "neutron.floatingips(floating_network_id, fixed_port_id, fixed_ip_address)",
            *("neutron.floatingipdnses[floatingip_id]", "neutron.qos_fip_policy_bindings(fip_id)"),
            "neutron.qos_fip_policy_bindings[policy_id, fip_id]",
            "neutron.portforwardings(floatingip_id, protocol, external_port_start, external_port_end)",
            "neutron.portforwardings(protocol, internal_neutron_port_id, internal_ip_address, internal_port_start, internal_port_end)",
            "neutron.local_ip_associations[local_ip_id, fixed_port_id]",
        ),
    ),
    Rule(
        "The parent port and the subports of a trunk",
        How.PART,
        ("neutron.trunks(port_id)", "neutron.subports(trunk_id, segmentation_type, segmentation_id)", "neutron.subports[port_id]"),
    ),
    Rule(
        "Rules of a QoS policy, addresses of a group, prefixes of a subnet pool, profiles of a network flavor",
        How.PART,
        (
            *("neutron.qos_bandwidth_limit_rules(qos_policy_id, direction)", "neutron.qos_dscp_marking_rules(qos_policy_id)"),
            "neutron.qos_minimum_bandwidth_rules(qos_policy_id, direction)",
            "neutron.qos_minimum_packet_rate_rules(qos_policy_id, direction)",
            *("neutron.qos_packet_rate_limit_rules(qos_policy_id, direction)", "neutron.address_associations[address, address_group_id]"),
            *("neutron.subnetpoolprefixes[cidr, subnetpool_id]", "neutron.flavorserviceprofilebindings[flavor_id, service_profile_id]"),
        ),
    ),
    Rule(
        "UUIDs and tokens that Nova generates",
        How.MADE,
        (
            *("nova.block_device_mapping(uuid)", "nova.compute_nodes(uuid)", "nova.console_auth_tokens(token_hash)"),
            *("nova.instance_info_caches(instance_uuid)", "nova.instances(uuid)", "nova.migrations(uuid)", "nova.services(uuid)"),
            *("nova_api.build_requests(instance_uuid)", "nova_api.cell_mappings(uuid)", "nova_api.instance_groups(uuid)"),
            *("nova_api.instance_mappings(instance_uuid)", "nova_api.request_specs(instance_uuid)"),
        ),
    ),
    Rule(
        "Hosts, services, devices and agents of a site, and their records",
        How.MADE,
        (
            *("nova.compute_nodes(host, hypervisor_hostname, deleted)", "nova.pci_devices(compute_node_id, address, deleted)"),
            *("nova.services(host, binary, deleted)", "nova.services(host, topic, deleted)", "nova_api.host_mappings(host)"),
            *("nova.task_log(task_name, host, period_beginning, period_ending)", "nova.virtual_interfaces(address, deleted)"),
            *("neutron.agents(agent_type, host)", "neutron.dvr_host_macs(mac_address)", "neutron.dvr_host_macs[host]"),
            *("neutron.dvr_fip_gateway_port_network[network_id, agent_id]", "neutron.ml2_geneve_endpoints(host)"),
            *("neutron.ml2_geneve_endpoints[ip_address]", "neutron.ml2_gre_endpoints(host)", "neutron.ml2_gre_endpoints[ip_address]"),
            *("neutron.ml2_vxlan_endpoints(host)", "neutron.ml2_vxlan_endpoints[ip_address]"),
            *("neutron.networkdhcpagentbindings(network_id, binding_index)", "neutron.networkdhcpagentbindings[network_id, dhcp_agent_id]"),
            *("neutron.routerl3agentbindings(router_id, binding_index)", "neutron.routerl3agentbindings[router_id, l3_agent_id]"),
            *("neutron.ha_router_agent_port_bindings(router_id, l3_agent_id)", "neutron.ha_router_agent_port_bindings[port_id]"),
            *("neutron.ha_router_networks(project_id)", "neutron.ha_router_networks[network_id, project_id]"),
            *("neutron.ha_router_vrid_allocations[network_id, vr_id]", "neutron.ovn_hash_ring[node_uuid, group_name]"),
            *("neutron.ovn_revision_numbers[resource_uuid, resource_type]", "neutron.providerresourceassociations(resource_id)"),
            *("neutron.providerresourceassociations[provider_name, resource_id]", "neutron.provisioningblocks[standard_attr_id, entity]"),
            *("neutron.quotausages[resource, project_id]", "neutron.resourcedeltas[resource, reservation_id]"),
            *("neutron.network_subnet_lock[network_id]", "glance.node_reference(node_reference_url)"),
            *("glance.node_reference[node_reference_id]", "glance.task_info[task_id]"),
        ),
    ),
    Rule(
        "Numbers by which Neutron's tables refer to the attributes that all its resources have",
        How.MADE,
        tuple(
            f"neutron.{table}(standard_attr_id)"
            for table in (
                *(
                    "address_groups",
                    "floatingips",
                    "local_ips",
                    "logs",
                    "ndp_proxies",
                    "network_segment_ranges",
                    "networks",
                    "networksegments",
                ),
                *(
                    "portforwardings",
                    "ports",
                    "qos_policies",
                    "routers",
                    "securitygroupdefaultrules",
                    "securitygrouprules",
                    "securitygroups",
                ),
                *("subnetpools", "subnets", "trunks"),
            )
        ),
    ),
    Rule("Records of Nova's former security groups, which nothing uses", How.MADE, ("nova.security_groups(project_id, name, deleted)",)),
)
