"""The table of collections for docs/reference/resources.md: for each, the sites that hold its resources, and their owner.

The gateway itself uses the rules of `routes`, which also cover collections that upstream adds, because all of Neutron's follow the same
rules. This table states the result for each collection of the installed services. A test compares it with the services and the rules, and
fails when upstream adds a collection that the table lacks. This module holds data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Where(Enum):
    """The sites that hold the resources of a collection."""

    ONE = "one site"
    """Each resource is at the site where it was created, and every site finds it by its id."""
    COPIES = "copies"
    """Several sites may hold copies of a resource under one id or name, which are changed together."""
    EACH = "each site"
    """Each site has its own resources; a request is about the resources of the site that receives it."""
    SETTING = "each site, set together"
    """Each site has its own value; reads are answered by the site that receives them, and changes are made at all sites."""
    VIEW = "no site"
    """The collection has no resources of its own: the answer is merged from all sites' answers about other resources."""


class Owner(Enum):
    """The owner of the resources of a collection."""

    PROJECT = "a project"
    USER = "a user"
    CLOUD = "the administrators"
    SITE = "the site"


@dataclass(frozen=True)
class Place:
    """A row of the table: one collection.

    Attributes:
        where: the sites that hold its resources.
        owner: the owner of its resources.
        fixed: True if clients can neither create nor change its resources.
        note: further explanation.
    """

    where: Where
    owner: Owner
    fixed: bool = False
    note: str = ""


_PROJECTS = Place(Where.ONE, Owner.PROJECT)
_CLOUDS = Place(Where.ONE, Owner.CLOUD)
_SITES = Place(Where.ONE, Owner.SITE, fixed=True)
_VIEW = Place(Where.VIEW, Owner.SITE, fixed=True)
_PROXY = "Nova's proxy for another service, in old microversions: read at all sites, changed at the site that receives the request"
_GONE = Place(Where.EACH, Owner.SITE, fixed=True, note="removed from Nova, which answers 410")
_NO_STORAGE = Place(Where.EACH, Owner.PROJECT, fixed=True, note="there is no block storage, so Nova refuses it")

PLACES: Mapping[str, Mapping[str, Place]] = {
    "compute": {
        "": Place(Where.EACH, Owner.SITE, fixed=True, note="the version document"),
        "extensions": Place(Where.EACH, Owner.SITE, fixed=True, note="descriptions of the API"),
        "flavors": Place(Where.COPIES, Owner.CLOUD, note="copied with its extra specs"),
        "images": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "limits": Place(Where.VIEW, Owner.PROJECT, fixed=True, note="the sums of all sites"),
        "os-agents": _GONE,
        "os-aggregates": Place(Where.EACH, Owner.CLOUD, note="each site numbers its own"),
        "os-assisted-volume-snapshots": _NO_STORAGE,
        "os-availability-zone": Place(Where.VIEW, Owner.SITE, fixed=True, note="each site is a zone"),
        "os-baremetal-nodes": Place(Where.EACH, Owner.SITE, note="there is no Ironic"),
        "os-cells": _GONE,
        "os-certificates": _GONE,
        "os-cloudpipe": _GONE,
        "os-console-auth-tokens": Place(Where.EACH, Owner.SITE, fixed=True, note="for the console proxy of the site"),
        "os-fixed-ips": _GONE,
        "os-floating-ip-dns": _GONE,
        "os-floating-ip-pools": Place(Where.VIEW, Owner.CLOUD, fixed=True, note=_PROXY),
        "os-floating-ips": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-floating-ips-bulk": _GONE,
        "os-fping": _GONE,
        "os-hosts": Place(Where.VIEW, Owner.SITE, note=_PROXY),
        "os-hypervisors": Place(
            Where.ONE, Owner.SITE, fixed=True, note="by number, of the site that receives the request, before microversion 2.53"
        ),
        "os-instance_usage_audit_log": Place(Where.EACH, Owner.SITE, fixed=True, note="a log of this site's hosts"),
        "os-keypairs": Place(Where.COPIES, Owner.USER, note="copied by its name; can't be shared"),
        "os-migrations": Place(Where.ONE, Owner.SITE, fixed=True),
        "os-networks": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-quota-class-sets": Place(Where.SETTING, Owner.CLOUD),
        "os-quota-sets": Place(Where.SETTING, Owner.CLOUD, note="a project of three sites may use three times as much"),
        "os-security-group-default-rules": _GONE,
        "os-security-group-rules": Place(Where.EACH, Owner.PROJECT, note="Nova's proxy for its site's Neutron, in old microversions"),
        "os-security-groups": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-server-external-events": Place(Where.EACH, Owner.SITE, note="messages of a site's services to its Nova"),
        "os-server-groups": Place(Where.ONE, Owner.PROJECT, note="its policy applies to the servers of its site"),
        "os-services": Place(Where.ONE, Owner.SITE, note="by number, of the site that receives the request, before microversion 2.53"),
        "os-simple-tenant-usage": Place(Where.VIEW, Owner.PROJECT, fixed=True, note="the sums of all sites"),
        "os-snapshots": _NO_STORAGE,
        "os-tenant-networks": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-volumes": _NO_STORAGE,
        "os-volumes_boot": Place(Where.EACH, Owner.PROJECT, note="an alias of `servers` in Nova, for this site alone; no client uses it"),
        "servers": Place(
            Where.ONE, Owner.PROJECT, note="servers that a scope creates together at several sites are replicas with ids of their own"
        ),
        "versions": Place(Where.EACH, Owner.SITE, fixed=True, note="the version document"),
    },
    "image": {
        "cache": Place(Where.EACH, Owner.SITE, note="of this site's Glance"),
        "images": Place(Where.COPIES, Owner.PROJECT, note="copied in chunks; the property `atoll_keep` lists the sites that keep a copy"),
        "info": Place(Where.EACH, Owner.SITE, fixed=True, note="of this site's Glance"),
        "metadefs": Place(Where.EACH, Owner.CLOUD, note="each site has its own definitions, from upstream's files"),
        "tasks": Place(Where.ONE, Owner.PROJECT, fixed=True, note="Glance creates one for an import, at the site of the image"),
    },
    "network": {
        "address-groups": _PROJECTS,
        "address-scopes": _PROJECTS,
        "agents": Place(Where.ONE, Owner.SITE),
        "auto-allocated-topology": Place(Where.EACH, Owner.PROJECT, note="created at the site that receives the request"),
        "availability_zones": _VIEW,
        "bgp-peers": _PROJECTS,
        "bgp-speakers": _PROJECTS,
        "bgpvpn/bgpvpns": _PROJECTS,
        "default-security-group-rules": Place(Where.EACH, Owner.CLOUD, note="each site has its own"),
        "flavors": _CLOUDS,
        "floatingip-pools": _VIEW,
        "floatingips": Place(Where.ONE, Owner.PROJECT, note="for ports of its own site"),
        "fwaas/firewall_groups": _PROJECTS,
        "fwaas/firewall_policies": _PROJECTS,
        "fwaas/firewall_rules": _PROJECTS,
        "local-ips": _PROJECTS,
        "log/loggable-resources": _VIEW,
        "log/logs": _PROJECTS,
        "metering/metering-label-rules": _CLOUDS,
        "metering/metering-labels": _CLOUDS,
        "ndp-proxies": _PROJECTS,
        "network-ip-availabilities": _VIEW,
        "network-segment-ranges": _CLOUDS,
        "networks": Place(
            Where.COPIES,
            Owner.PROJECT,
            note="copied with its subnets; the copies are not connected. An external network stays at its site and is never copied",
        ),
        "ports": Place(Where.ONE, Owner.PROJECT, note="moves to the site of its server while it is unbound"),
        "qos/alias-bandwidth-limit-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-dscp-marking-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-minimum-bandwidth-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-minimum-packet-rate-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/policies": _PROJECTS,
        "qos/rule-types": _VIEW,
        "quotas": Place(Where.SETTING, Owner.CLOUD),
        "rbac-policies": Place(
            Where.ONE, Owner.PROJECT, note="at the site where its object was created, whichever site receives the request"
        ),
        "routers": Place(Where.ONE, Owner.PROJECT, note="with a gateway, created at the site of the external network"),
        "security-group-rules": Place(Where.COPIES, Owner.PROJECT, note="at every site that holds its group"),
        "security-groups": Place(Where.COPIES, Owner.PROJECT, note="copied with its rules; a project's `default` has one id at all sites"),
        "security-groups-default-statefulness": Place(Where.ONE, Owner.PROJECT),
        "segments": _CLOUDS,
        "service-providers": _VIEW,
        "service_profiles": _CLOUDS,
        "sfc/flow_classifiers": _PROJECTS,
        "sfc/port_chains": _PROJECTS,
        "sfc/port_pair_groups": _PROJECTS,
        "sfc/port_pairs": _PROJECTS,
        "subnetpools": _PROJECTS,
        "subnets": Place(Where.COPIES, Owner.PROJECT, note="at every site that holds its network"),
        "taas/tap_flows": _PROJECTS,
        "taas/tap_mirrors": _PROJECTS,
        "taas/tap_services": _PROJECTS,
        "trunks": _PROJECTS,
        "vpn/endpoint_groups": _PROJECTS,
        "vpn/ikepolicies": _PROJECTS,
        "vpn/ipsec_site_connections": _PROJECTS,
        "vpn/ipsecpolicies": _PROJECTS,
        "vpn/vpnservices": _PROJECTS,
    },
}
"""The rows by service and path of the collection, without the API's version. A child of a resource is at the resource's site."""

VERSIONS: Mapping[str, str] = {"compute": "v2.1", "image": "v2", "network": "v2.0"}
"""First segment of the paths of each service."""


def collection_of(service: str, path: str) -> str:
    """Return the key of `PLACES` for a path of an API.

    Args:
        service: the service.
        path: the path of a collection, or a path below one (`/v2.0/qos/policies/{id}/tags`).
    """
    parts = path.strip("/").split("/")[1:]
    if service == "network" and len(parts) > 1 and not parts[1].startswith("{"):
        return "/".join(parts[:2])
    return parts[0] if parts else ""
