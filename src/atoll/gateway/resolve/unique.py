"""What has to be unique, and among what: the one table of upstream's uniqueness rules, and how each holds in a cloud of many sites.

The rules are the unique constraints and the natural keys of the databases of Nova, Neutron and Glance (`service.table(columns)`, or
`[columns]` for a primary key), which a test compares with the installed versions. docs/reference/unique-names.md is made from this table.
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
    """How a rule holds in the cloud."""

    CLOUD = "In the whole cloud: the gateway asks all sites that can be reached before the site of the request makes it"
    COPY = "At each site that has a copy of the whole: a change is made at all of them, and each applies the rule"
    PART = "Within a resource that is at one site, which applies the rule"
    SITE = "At each site: another site's is another thing, and no list shows two of them as one"
    MADE = "By ids, numbers or addresses that the site's service makes itself, or that only its own processes use"


@dataclass(frozen=True)
class Rule:
    """One uniqueness rule, or several of one kind.

    Attributes:
        what: what is unique, for people.
        how: how it holds in the cloud.
        upstream: the constraints.
        refusal: the words of upstream's 409, with the value's place; for rules of the whole cloud.
    """

    what: str
    how: How
    upstream: tuple[str, ...]
    refusal: str = ""


@dataclass(frozen=True, order=True)
class Name:
    """A name or id that a request takes, and nothing else in the cloud may have.

    Attributes:
        kind: a key of `KINDS`.
        value: the name.
        owner: the id of the user among whose names it is unique; empty if it is unique among all.
    """

    kind: str
    value: str
    owner: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of names of the whole cloud.

    Attributes:
        service: whose rule it is.
        collection: the path of the collection.
        key: of one thing in an answer; empty if it stands alone.
        refusal: the words of upstream's 409.
        lasting: the fields by which two sites' things are one and the same.
    """

    service: str
    collection: str
    key: str
    refusal: str
    lasting: tuple[str, ...]


KEY_PAIR, FLAVOR_ID, FLAVOR_NAME, IMAGE_ID = "key pair", "flavor", "flavor name", "image"

_FLAVOR = ("id", "name", "ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral", "rxtx_factor", "os-flavor-access:is_public")

KINDS: Mapping[str, Kind] = {
    KEY_PAIR: Kind("compute", "/v2.1/os-keypairs", "keypair", "Key pair '{}' already exists.", ("public_key", "type")),
    FLAVOR_ID: Kind("compute", "/v2.1/flavors", "flavor", "Flavor with ID {} already exists.", _FLAVOR),
    FLAVOR_NAME: Kind("compute", "/v2.1/flavors", "flavor", "Flavor with name {} already exists.", _FLAVOR),
    IMAGE_ID: Kind("image", "/v2/images", "", "Image ID {} already exists!", ("owner", "os_hash_value", "disk_format", "container_format")),
    **{
        item.replace("_", " "): Kind(
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
"""The names that the gateway asks all sites for. Ids of images and of Neutron's things only if an administrator gives one."""

USERS_OF_KEY_PAIRS = (2, 10)
"""The first of Nova's microversions in which a request may name the user that a key pair is for."""


TAKING = frozenset(
    (
        *(("compute", "keypairs"), ("compute", "flavors"), ("image", "images")),
        *(("network", f"{kind.key}s") for kind in KINDS.values() if kind.service == "network"),
    )
)
"""Services and keys of the resources whose creation may take a name of the whole cloud. Neutron has flavors too, which take none."""


def wanted(call: Call, resource: Resource) -> list[Name]:
    """Return the names that a creation takes in the whole cloud; none for most resources, whose ids the service makes.

    Args:
        call: the client's POST.
        resource: what it creates.
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
        return []  # the service says what is wrong with it


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
    Rule("The name of a key pair, among those of a user", How.CLOUD, ("nova_api.key_pairs(user_id, name)",), KINDS[KEY_PAIR].refusal),
    Rule("The id of a flavor", How.CLOUD, ("nova_api.flavors(flavorid)",), KINDS[FLAVOR_ID].refusal),
    Rule("The name of a flavor", How.CLOUD, ("nova_api.flavors(name)",), KINDS[FLAVOR_NAME].refusal),
    Rule("The id of an image, if an administrator gives it", How.CLOUD, ("glance.images[id]",), KINDS[IMAGE_ID].refusal),
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
        "An RBAC policy for a thing, a project and an action",
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
        "Name servers, host routes and service types of a subnet; tags of any resource; the settings that a network or a group has once",
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
        "A MAC address and an IP address in a network, whose part at each site is its own until networks span sites",
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
        "Namespaces of metadata definitions, and what is in them",
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
        "What a port has once, or once with each value",
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
        "UUIDs and tokens that Nova makes",
        How.MADE,
        (
            *("nova.block_device_mapping(uuid)", "nova.compute_nodes(uuid)", "nova.console_auth_tokens(token_hash)"),
            *("nova.instance_info_caches(instance_uuid)", "nova.instances(uuid)", "nova.migrations(uuid)", "nova.services(uuid)"),
            *("nova_api.build_requests(instance_uuid)", "nova_api.cell_mappings(uuid)", "nova_api.instance_groups(uuid)"),
            *("nova_api.instance_mappings(instance_uuid)", "nova_api.request_specs(instance_uuid)"),
        ),
    ),
    Rule(
        "Hosts, services, devices and agents of a site, and what they do",
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
        "Numbers by which Neutron's tables refer to what all its resources have",
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
    Rule("What Nova kept of its own security groups, and nothing uses", How.MADE, ("nova.security_groups(project_id, name, deleted)",)),
)
