"""The table of references: fields of requests that refer to another resource, and the gateway's action if another site has the resource.

The table is complete: tests/unit/gateway/test_references_complete.py compares it with the request schemas of Nova, the API definitions of
Neutron and the schema of Glance, and fails when upstream has a field that is not in the table. The page docs/reference/references.md is
generated from it. This module holds data only; `mentions` reads requests by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

IMAGE = "image"
FLAVOR = "flavor"
KEY_PAIR = "key pair"
SERVER = "server"
SERVER_GROUP = "server group"
HOST = "host"
ZONE = "availability zone"
VOLUME = "volume"
SHARE = "share"
CERTIFICATE = "certificate"
NETWORK = "network"
SUBNET = "subnet"
PORT = "port"
SECURITY_GROUP = "security group"
SECURITY_GROUP_RULE = "rule of a security group"
ROUTER = "router"
FLOATING_IP = "floating IP"
ADDRESS_GROUP = "address group"
ADDRESS_SCOPE = "address scope"
SUBNET_POOL = "subnet pool"
SEGMENT = "segment"
QOS_POLICY = "QoS policy"
METERING_LABEL = "metering label"
NETWORK_FLAVOR = "flavor of the network service"
SERVICE_PROFILE = "service profile"
FIREWALL_GROUP = "firewall group"
FIREWALL_POLICY = "firewall policy"
FIREWALL_RULE = "firewall rule"
VPN_SERVICE = "VPN service"
IKE_POLICY = "IKE policy"
IPSEC_POLICY = "IPsec policy"
ENDPOINT_GROUP = "endpoint group"
PORT_PAIR = "port pair"
PORT_PAIR_GROUP = "port pair group"
PORT_CHAIN = "port chain"
FLOW_CLASSIFIER = "flow classifier"
BGP_PEER = "BGP peer"
BGPVPN = "BGP VPN"
TAP_SERVICE = "tap service"
IDENTITY = "project, user or domain"

ORDER = (FLAVOR, KEY_PAIR, NETWORK, SUBNET, SECURITY_GROUP, PORT, IMAGE)
"""The order in which resources are brought. Images come last, because they take longest, and the others may fail first."""


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resources, and where they are searched.

    Attributes:
        service: the service of the resources.
        path: the path of the collection.
        key: the key of a single resource in an answer; empty if the answer is the resource itself.
    """

    service: str
    path: str
    key: str


KINDS: Mapping[str, ResourceKind] = {
    IMAGE: ResourceKind("image", "/v2/images", ""),
    FLAVOR: ResourceKind("compute", "/v2.1/flavors", "flavor"),
    KEY_PAIR: ResourceKind("compute", "/v2.1/os-keypairs", "keypair"),
    SERVER: ResourceKind("compute", "/v2.1/servers", "server"),
    SERVER_GROUP: ResourceKind("compute", "/v2.1/os-server-groups", "server_group"),
    NETWORK: ResourceKind("network", "/v2.0/networks", "network"),
    SUBNET: ResourceKind("network", "/v2.0/subnets", "subnet"),
    PORT: ResourceKind("network", "/v2.0/ports", "port"),
    SECURITY_GROUP: ResourceKind("network", "/v2.0/security-groups", "security_group"),
    SECURITY_GROUP_RULE: ResourceKind("network", "/v2.0/security-group-rules", "security_group_rule"),
    ROUTER: ResourceKind("network", "/v2.0/routers", "router"),
    ADDRESS_GROUP: ResourceKind("network", "/v2.0/address-groups", "address_group"),
    ADDRESS_SCOPE: ResourceKind("network", "/v2.0/address-scopes", "address_scope"),
    SUBNET_POOL: ResourceKind("network", "/v2.0/subnetpools", "subnetpool"),
    SEGMENT: ResourceKind("network", "/v2.0/segments", "segment"),
    QOS_POLICY: ResourceKind("network", "/v2.0/qos/policies", "policy"),
    METERING_LABEL: ResourceKind("network", "/v2.0/metering/metering-labels", "metering_label"),
    NETWORK_FLAVOR: ResourceKind("network", "/v2.0/flavors", "flavor"),
    SERVICE_PROFILE: ResourceKind("network", "/v2.0/service_profiles", "service_profile"),
    FIREWALL_GROUP: ResourceKind("network", "/v2.0/fwaas/firewall_groups", "firewall_group"),
    FIREWALL_POLICY: ResourceKind("network", "/v2.0/fwaas/firewall_policies", "firewall_policy"),
    FIREWALL_RULE: ResourceKind("network", "/v2.0/fwaas/firewall_rules", "firewall_rule"),
    VPN_SERVICE: ResourceKind("network", "/v2.0/vpn/vpnservices", "vpnservice"),
    IKE_POLICY: ResourceKind("network", "/v2.0/vpn/ikepolicies", "ikepolicy"),
    IPSEC_POLICY: ResourceKind("network", "/v2.0/vpn/ipsecpolicies", "ipsecpolicy"),
    ENDPOINT_GROUP: ResourceKind("network", "/v2.0/vpn/endpoint-groups", "endpoint_group"),
    PORT_PAIR: ResourceKind("network", "/v2.0/sfc/port_pairs", "port_pair"),
    PORT_PAIR_GROUP: ResourceKind("network", "/v2.0/sfc/port_pair_groups", "port_pair_group"),
    PORT_CHAIN: ResourceKind("network", "/v2.0/sfc/port_chains", "port_chain"),
    FLOW_CLASSIFIER: ResourceKind("network", "/v2.0/sfc/flow_classifiers", "flow_classifier"),
    BGP_PEER: ResourceKind("network", "/v2.0/bgp-peers", "bgp_peer"),
    BGPVPN: ResourceKind("network", "/v2.0/bgpvpn/bgpvpns", "bgpvpn"),
    TAP_SERVICE: ResourceKind("network", "/v2.0/taas/tap_services", "tap_service"),
}
"""The kinds that are searched by id. `bring.service_client` searches floating IPs by address, and hosts by name."""


class Action(Enum):
    """The treatment of a reference to a resource that this site lacks and another site holds."""

    BRING = "brought"
    """The resource is brought under the same id."""
    MOVE = "moved"
    """The resource (a port) is moved if it is unbound; otherwise, the request is refused with a sentence that names the resource's site."""
    REFUSE = "refused"
    """The request is refused with a sentence that names the resource's site."""
    ANYWHERE = "anywhere"
    """The reference means the same at each site."""
    OWN = "the site's own"
    """The reference names hardware of the site, or a part of the request's own resource; other sites are not concerned."""
    NOWHERE = "nowhere"
    """The reference names a resource of a service that no site has; Nova or Glance refuses it."""


@dataclass(frozen=True)
class Field:
    """A field that refers to a resource.

    Attributes:
        path: the path of the field in the body or the resource: names joined by dots, `[]` after the name of a list, `*` for any name.
        kind: the kind of the resource that the field names.
        action: the gateway's action if only another site holds that resource.
        leads: whether a creation request is sent to the site of that resource.
        when: a sibling field and its value; this row applies only if the sibling field has the value.
        ahead: whether the service would accept the request without the resource, so that the gateway must examine the field first.
        implied: whether the field stands for a resource when it is left out or has a special value.
        by_value: whether the resource keeps the value that it got from the referenced resource, so that a copy does not need the referenced
            resource.
        hint: an alternative for the user, for the message of a refusal; `{here}` and `{site}` stand for the two sites.
    """

    path: str
    kind: str
    action: Action
    leads: bool = False
    when: tuple[str, str] | None = None
    ahead: bool = False
    implied: bool = False
    by_value: bool = False
    hint: str = ""


BRING, MOVE, REFUSE, ANYWHERE, OWN, NOWHERE = Action.BRING, Action.MOVE, Action.REFUSE, Action.ANYWHERE, Action.OWN, Action.NOWHERE


def _hints(prefix: str) -> tuple[Field, ...]:
    """Return the fields of the scheduler's hints below one of their two names."""
    group = "a group's policy holds among the servers of one site: use a group of {here}, or create the server at {site}"
    same = "two sites share no host: create the server at {site}"
    return (
        *(Field(f"{prefix}.{name}", SERVER_GROUP, REFUSE, hint=group) for name in ("group", "group[]")),
        Field(f"{prefix}.same_host[]", SERVER, REFUSE, ahead=True, hint=same),
        Field(f"{prefix}.same_host", SERVER, REFUSE, ahead=True, hint=same),
        Field(f"{prefix}.different_host[]", SERVER, ANYWHERE),
        Field(f"{prefix}.different_host", SERVER, ANYWHERE),
        *(Field(f"{prefix}.{name}", HOST, OWN) for name in ("build_near_host_ip", "target_cell", "different_cell[]")),
    )


_HOST_HINT = "a server stays at its site"

COMPUTE: Mapping[str, tuple[Field, ...]] = {
    "servers": (
        Field("server.imageRef", IMAGE, BRING),
        Field("server.flavorRef", FLAVOR, BRING),
        Field("server.key_name", KEY_PAIR, BRING),
        Field("server.networks", NETWORK, BRING, ahead=True, implied=True),
        Field("server.security_groups", SECURITY_GROUP, BRING, ahead=True, implied=True),
        Field("server.networks[].uuid", NETWORK, BRING),
        Field("server.networks[].port", PORT, MOVE),
        Field("server.security_groups[].name", SECURITY_GROUP, BRING),
        Field("server.block_device_mapping_v2[].uuid", IMAGE, BRING, when=("source_type", "image")),
        Field("server.block_device_mapping_v2[].image_id", IMAGE, BRING),
        *(
            Field(f"server.block_device_mapping{version}[].{name}", VOLUME, NOWHERE)
            for version in ("", "_v2")
            for name in ("volume_id", "snapshot_id")
        ),
        Field("server.block_device_mapping_v2[].volume_type", VOLUME, NOWHERE),
        Field("server.trusted_image_certificates[]", CERTIFICATE, NOWHERE),
        Field("server.availability_zone", ZONE, ANYWHERE, leads=True),
        Field("server.host", HOST, REFUSE, hint="name {site} as the availability zone too"),
        Field("server.hypervisor_hostname", HOST, REFUSE, hint="name {site} as the availability zone too"),
        *_hints("os:scheduler_hints"),
        *_hints("OS-SCH-HNT:scheduler_hints"),
    ),
    "servers/{}": (Field("server.pinned_availability_zone", ZONE, OWN),),
    "servers/{}/action": (
        Field("rebuild.imageRef", IMAGE, BRING),
        Field("rebuild.key_name", KEY_PAIR, BRING),
        Field("rebuild.trusted_image_certificates[]", CERTIFICATE, NOWHERE),
        Field("resize.flavorRef", FLAVOR, BRING),
        Field("rescue.rescue_image_ref", IMAGE, BRING),
        Field("addSecurityGroup.name", SECURITY_GROUP, BRING),
        Field("removeSecurityGroup.name", SECURITY_GROUP, OWN),
        Field("addFixedIp.networkId", NETWORK, BRING),
        Field("removeFixedIp.address", PORT, OWN),
        Field("addFloatingIp.address", FLOATING_IP, REFUSE, hint="a floating IP leads to servers of its own site: create one at {here}"),
        Field("addFloatingIp.fixed_address", PORT, OWN),
        Field("removeFloatingIp.address", FLOATING_IP, OWN),
        *(Field(f"{name}.host", HOST, REFUSE, hint=_HOST_HINT) for name in ("evacuate", "migrate", "os-migrateLive", "unshelve")),
        Field("unshelve.availability_zone", ZONE, REFUSE, hint=_HOST_HINT),
    ),
    "servers/{}/os-interface": (
        Field("interfaceAttachment.net_id", NETWORK, BRING),
        Field("interfaceAttachment.port_id", PORT, MOVE),
        Field("interfaceAttachment.fixed_ips[].ip_address", PORT, OWN),
        Field("interfaceAttachment.security_groups", SECURITY_GROUP, BRING, ahead=True, implied=True),
    ),
    "servers/{}/os-volume_attachments": tuple(
        Field(f"volumeAttachment.{name}", VOLUME, NOWHERE) for name in ("volumeId", "id", "serverId")
    ),
    "servers/{}/shares": (Field("share.share_id", SHARE, NOWHERE),),
    "flavors/{}/action": tuple(Field(f"{name}TenantAccess.tenant", IDENTITY, ANYWHERE) for name in ("add", "remove")),
    "os-keypairs": (Field("keypair.user_id", IDENTITY, ANYWHERE),),
    "os-aggregates": (Field("aggregate.availability_zone", ZONE, OWN),),
    "os-aggregates/{}/action": tuple(Field(f"{name}.host", HOST, OWN) for name in ("add_host", "remove_host")),
    "os-aggregates/{}/images": (Field("cache[].id", IMAGE, BRING, ahead=True),),
    "os-services": (Field("host", HOST, OWN),),
    "os-server-external-events": (Field("events[].server_uuid", SERVER, OWN),),
    "os-security-group-rules": tuple(
        Field(f"security_group_rule.{name}", SECURITY_GROUP, BRING) for name in ("parent_group_id", "group_id")
    ),
    "os-assisted-volume-snapshots": tuple(
        Field(f"snapshot.{name}", VOLUME, NOWHERE) for name in ("volume_id", "create_info.id", "create_info.snapshot_id")
    ),
    "os-snapshots": (Field("snapshot.volume_id", VOLUME, NOWHERE),),
    "os-volumes": tuple(Field(f"volume.{name}", VOLUME, NOWHERE) for name in ("snapshot_id", "volume_type", "availability_zone")),
}
"""Requests to Nova: for each path, with `{}` for ids, the fields of the whole body."""

_TIED = "only resources of one site can be tied together"


def _refuse(kind: str, *paths: str, leads: bool = False, hint: str = _TIED) -> tuple[Field, ...]:
    return tuple(Field(path, kind, REFUSE, leads=leads, hint=hint) for path in paths)


_QOS = Field("qos_policy_id", QOS_POLICY, REFUSE, hint="use a policy of {here}")
_ADDRESS_GROUP = Field("remote_address_group_id", ADDRESS_GROUP, REFUSE, hint="use one of {here}, or write its addresses into rules")
_FIP_HINT = "a floating IP leads to ports of its own site: create one at {site}"

_SHARED = (
    ("network", NETWORK),
    ("qos_policy", QOS_POLICY),
    ("security_group", SECURITY_GROUP),
    ("address_scope", ADDRESS_SCOPE),
    ("address_group", ADDRESS_GROUP),
    ("subnetpool", SUBNET_POOL),
    ("bgpvpn", BGPVPN),
)
"""The values of `object_type` of an RBAC policy, each with the kind that it shares."""

NETWORKING: Mapping[str, tuple[Field, ...]] = {
    "networks": (
        _QOS,
        Field("ipv4_address_scope", ADDRESS_SCOPE, REFUSE),
        Field("ipv6_address_scope", ADDRESS_SCOPE, REFUSE),
        Field("availability_zone_hints[]", ZONE, ANYWHERE, leads=True),
        Field("provider:physical_network", HOST, OWN),
        Field("segments[].provider:physical_network", HOST, OWN),
    ),
    "subnets": (
        Field("network_id", NETWORK, BRING, leads=True),
        Field("use_default_subnetpool", SUBNET_POOL, OWN, implied=True),
        Field("subnetpool_id", SUBNET_POOL, REFUSE, by_value=True, hint="use a pool of {here}, or give the prefix as `cidr`"),
        Field("segment_id", SEGMENT, REFUSE, hint="a routed provider network is tied to the hardware of its site"),
    ),
    "ports": (
        Field("network_id", NETWORK, BRING, leads=True),
        Field("fixed_ips[].subnet_id", SUBNET, BRING),
        Field("security_groups[]", SECURITY_GROUP, BRING),
        Field("security_groups", SECURITY_GROUP, BRING, ahead=True, implied=True),
        _QOS,
        Field("device_id", SERVER, OWN),
        Field("binding:host_id", HOST, OWN),
        Field("device_profile", HOST, OWN),
    ),
    "ports/{}/bindings": (Field("host", HOST, OWN),),
    "routers": (
        Field("external_gateway_info.network_id", NETWORK, BRING, leads=True),
        Field("external_gateway_info.external_fixed_ips[].subnet_id", SUBNET, BRING),
        Field("external_gateway_info.qos_policy_id", QOS_POLICY, REFUSE, hint=_QOS.hint),
        Field("flavor_id", NETWORK_FLAVOR, REFUSE, hint=_TIED),
        Field("service_type_id", NETWORK_FLAVOR, OWN),
        Field("availability_zone_hints[]", ZONE, ANYWHERE, leads=True),
    ),
    "routers/{}/add_router_interface": (Field("subnet_id", SUBNET, BRING), Field("port_id", PORT, MOVE)),
    "routers/{}/remove_router_interface": (Field("subnet_id", SUBNET, OWN), Field("port_id", PORT, OWN)),
    **{
        f"routers/{{}}/{action}": (
            Field("router.external_gateways[].network_id", NETWORK, did),
            Field("router.external_gateways[].external_fixed_ips[].subnet_id", SUBNET, did),
            Field("router.external_gateways[].qos_policy_id", QOS_POLICY, OWN if did is OWN else REFUSE, hint=_QOS.hint),
        )
        for action, did in (("add_external_gateways", BRING), ("update_external_gateways", BRING), ("remove_external_gateways", OWN))
    },
    "floatingips": (
        Field("port_id", PORT, REFUSE, leads=True, hint=_FIP_HINT),
        Field("floating_network_id", NETWORK, BRING, leads=True),
        Field("subnet_id", SUBNET, BRING),
        Field("router_id", ROUTER, REFUSE, hint=_FIP_HINT),
        _QOS,
    ),
    "floatingips/{}/port_forwardings": _refuse(PORT, "internal_port_id", hint=_FIP_HINT),
    "security_groups": (),
    "security_group_rules": (
        Field("security_group_id", SECURITY_GROUP, BRING, leads=True),
        Field("remote_group_id", SECURITY_GROUP, BRING),
        _ADDRESS_GROUP,
    ),
    "default_security_group_rules": (Field("remote_group_id", SECURITY_GROUP, BRING), _ADDRESS_GROUP),
    "rbac_policies": (
        *(Field("object_id", kind, REFUSE, leads=True, when=("object_type", name)) for name, kind in _SHARED),
        Field("target_tenant", IDENTITY, ANYWHERE),
    ),
    "subnetpools": _refuse(ADDRESS_SCOPE, "address_scope_id", leads=True),
    "subnetpools/{}/onboard_network_subnets": _refuse(NETWORK, "network_id"),
    "segments": (*_refuse(NETWORK, "network_id", leads=True), Field("physical_network", HOST, OWN)),
    "network_segment_ranges": (Field("physical_network", HOST, OWN),),
    "trunks": (Field("port_id", PORT, REFUSE, leads=True, hint=_TIED), Field("sub_ports[].port_id", PORT, MOVE)),
    "trunks/{}/add_subports": (Field("sub_ports[].port_id", PORT, MOVE),),
    "trunks/{}/remove_subports": (Field("sub_ports[].port_id", PORT, OWN),),
    "metering_label_rules": _refuse(METERING_LABEL, "metering_label_id", leads=True),
    "logs": (
        Field("resource_id", SECURITY_GROUP, REFUSE, leads=True, when=("resource_type", "security_group"), hint=_TIED),
        Field("resource_id", FIREWALL_GROUP, REFUSE, leads=True, when=("resource_type", "firewall_group"), hint=_TIED),
        Field("resource_id", ROUTER, REFUSE, leads=True, when=("resource_type", "snat"), hint=_TIED),
        Field("target_id", PORT, REFUSE, leads=True, hint=_TIED),
    ),
    "local_ips": (*_refuse(PORT, "local_port_id", leads=True), Field("network_id", NETWORK, BRING)),
    "local_ips/{}/port_associations": _refuse(PORT, "fixed_port_id"),
    "ndp_proxies": (*_refuse(ROUTER, "router_id", leads=True), *_refuse(PORT, "port_id", leads=True)),
    "agents/{}/dhcp_networks": _refuse(NETWORK, "network_id"),
    "agents/{}/l3_routers": _refuse(ROUTER, "router_id"),
    "flavors": _refuse(SERVICE_PROFILE, "service_profiles[]", leads=True),
    "flavors/{}/service_profiles": _refuse(SERVICE_PROFILE, "id"),
    "firewall_groups": (
        *_refuse(FIREWALL_POLICY, "ingress_firewall_policy_id", "egress_firewall_policy_id", leads=True),
        *_refuse(PORT, "ports[]", leads=True),
    ),
    "firewall_policies": _refuse(FIREWALL_RULE, "firewall_rules[]", leads=True),
    "firewall_policies/{}/insert_rule": _refuse(FIREWALL_RULE, "firewall_rule_id", "insert_before", "insert_after"),
    "firewall_policies/{}/remove_rule": (Field("firewall_rule_id", FIREWALL_RULE, OWN),),
    "vpnservices": (
        *_refuse(ROUTER, "router_id", leads=True),
        *_refuse(SUBNET, "subnet_id"),
        *_refuse(NETWORK_FLAVOR, "flavor_id"),
    ),
    "ipsec_site_connections": (
        *_refuse(VPN_SERVICE, "vpnservice_id", leads=True),
        *_refuse(IKE_POLICY, "ikepolicy_id"),
        *_refuse(IPSEC_POLICY, "ipsecpolicy_id"),
        *_refuse(ENDPOINT_GROUP, "local_ep_group_id", "peer_ep_group_id"),
    ),
    "endpoint_groups": tuple(
        Field("endpoints[]", kind, REFUSE, leads=True, when=("type", name), hint=_TIED)
        for name, kind in (("subnet", SUBNET), ("network", NETWORK), ("router", ROUTER))
    ),
    "port_pairs": _refuse(PORT, "ingress", "egress", leads=True),
    "port_pair_groups": _refuse(PORT_PAIR, "port_pairs[]", leads=True),
    "port_chains": (
        *_refuse(PORT_PAIR_GROUP, "port_pair_groups[]", leads=True),
        *_refuse(FLOW_CLASSIFIER, "flow_classifiers[]"),
    ),
    "flow_classifiers": (
        *_refuse(PORT, "logical_source_port", "logical_destination_port", leads=True),
        *_refuse(NETWORK, "l7_parameters.logical_source_network", "l7_parameters.logical_destination_network"),
    ),
    "service_graphs": _refuse(PORT_CHAIN, "port_chains.*[]", leads=True),
    "bgp_speakers/{}/add_bgp_peer": _refuse(BGP_PEER, "bgp_peer_id"),
    "bgp_speakers/{}/remove_bgp_peer": (Field("bgp_peer_id", BGP_PEER, OWN),),
    "bgp_speakers/{}/add_gateway_network": _refuse(NETWORK, "network_id"),
    "bgp_speakers/{}/remove_gateway_network": (Field("network_id", NETWORK, OWN),),
    "bgpvpns/{}/network_associations": _refuse(NETWORK, "network_id"),
    "bgpvpns/{}/router_associations": _refuse(ROUTER, "router_id"),
    "bgpvpns/{}/port_associations": (*_refuse(PORT, "port_id"), *_refuse(BGPVPN, "routes[].bgpvpn_id")),
    "tap_services": _refuse(PORT, "port_id", leads=True),
    "tap_flows": (*_refuse(TAP_SERVICE, "tap_service_id", leads=True), *_refuse(PORT, "source_port")),
    "tap_mirrors": _refuse(PORT, "port_id", leads=True),
}
"""Requests to Neutron: for each path, without the prefix of a plug-in, the fields of a resource.

A body holds a resource under its own key, or a list under the key of the collection; the body of an action is flat. The references of a
resource that is brought are read by the same fields."""

ACTIONS = frozenset(
    (
        *("add_router_interface", "remove_router_interface", "add_external_gateways", "update_external_gateways"),
        *("remove_external_gateways", "onboard_network_subnets", "add_subports", "remove_subports", "insert_rule", "remove_rule"),
        *("add_bgp_peer", "remove_bgp_peer", "add_gateway_network", "remove_gateway_network", "dhcp_networks", "l3_routers"),
    )
)
"""Last segments of Neutron's paths whose bodies are flat."""

PREFIXES = frozenset(("qos", "metering", "fw", "fwaas", "lbaas", "taas", "vpn", "sfc", "bgpvpn", "log"))
"""First segments of paths that have collections of their own (`/v2.0/qos/policies`)."""

IDENTITY_FIELDS = ("project_id", "tenant_id", "owner", "user_id")
"""Fields of any request that name a project or a user, which are the same at all sites."""

IMAGES: Mapping[str, tuple[Field, ...]] = {
    "images": (
        Field("kernel_id", IMAGE, BRING, ahead=True),
        Field("ramdisk_id", IMAGE, BRING, ahead=True),
        Field("owner", IDENTITY, ANYWHERE),
        Field("locations[]", HOST, OWN),
    ),
    "images/{}/members": (Field("member", IDENTITY, ANYWHERE),),
    "images/{}/import": (
        Field("method.glance_image_id", IMAGE, OWN),
        Field("method.glance_region", HOST, OWN),
        Field("stores[]", HOST, OWN),
    ),
}
"""Requests to Glance: for each path, the fields of the body. The body of a request that changes an image is a JSON patch."""
