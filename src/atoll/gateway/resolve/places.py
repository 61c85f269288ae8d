"""Where the resources of each collection live, and whose they are: the table of docs/reference/resources.md.

The gateway itself goes by the rules of `routes`, which also cover a collection that upstream adds: all of Neutron's are alike. This table
says for each collection of the installed services what the rules come to. A test compares it with the services and with the rules, and
fails when upstream adds a collection that is not in it. Data alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Where(Enum):
    """Where the resources of a collection live."""

    ONE = "one site"
    """Each resource is at the site where it was made. Its id means it at every site."""
    COPIES = "copies"
    """Several sites may have the same resource, under one id or name. It is changed at all of them or at none."""
    EACH = "each site"
    """Each site has its own; a request is about those of the site that is asked."""
    SETTING = "each site, set together"
    """Each site has its own value; reading is about the site that is asked, and a change is made at all sites."""
    VIEW = "no site"
    """Nothing of its own: an answer made of what all sites say of other resources."""


class Owner(Enum):
    """Whose the resources of a collection are."""

    PROJECT = "a project"
    USER = "a user"
    CLOUD = "the administrators"
    SITE = "the site"


@dataclass(frozen=True)
class Place:
    """A row of the table: one collection.

    Attributes:
        where: its resources live.
        owner: of its resources.
        fixed: True if clients make and change none.
        note: what else has to be known.
    """

    where: Where
    owner: Owner
    fixed: bool = False
    note: str = ""


_PROJECTS = Place(Where.ONE, Owner.PROJECT)
_CLOUDS = Place(Where.ONE, Owner.CLOUD)
_SITES = Place(Where.ONE, Owner.SITE, fixed=True)
_VIEW = Place(Where.VIEW, Owner.SITE, fixed=True)
_PROXY = "what Nova shows of another service, in old microversions: read at all sites, changed at the site that is asked"
_GONE = Place(Where.EACH, Owner.SITE, fixed=True, note="Nova has it no more, and answers 410")
_NO_STORAGE = Place(Where.EACH, Owner.PROJECT, fixed=True, note="there is no block storage: Nova refuses it")

PLACES: Mapping[str, Mapping[str, Place]] = {
    "compute": {
        "": Place(Where.EACH, Owner.SITE, fixed=True, note="the version document"),
        "extensions": Place(Where.EACH, Owner.SITE, fixed=True, note="it describes the API"),
        "flavors": Place(Where.COPIES, Owner.CLOUD, note="brought, with its extra specs"),
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
        "os-console-auth-tokens": Place(Where.EACH, Owner.SITE, fixed=True, note="what a site's console proxy asks its Nova"),
        "os-fixed-ips": _GONE,
        "os-floating-ip-dns": _GONE,
        "os-floating-ip-pools": Place(Where.VIEW, Owner.CLOUD, fixed=True, note=_PROXY),
        "os-floating-ips": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-floating-ips-bulk": _GONE,
        "os-fping": _GONE,
        "os-hosts": Place(Where.VIEW, Owner.SITE, note=_PROXY),
        "os-hypervisors": Place(Where.ONE, Owner.SITE, fixed=True, note="by number before microversion 2.53: of the site that is asked"),
        "os-instance_usage_audit_log": Place(Where.EACH, Owner.SITE, fixed=True, note="a log of this site's hosts"),
        "os-keypairs": Place(Where.COPIES, Owner.USER, note="brought by its name; nothing shares one"),
        "os-migrations": Place(Where.ONE, Owner.SITE, fixed=True),
        "os-networks": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-quota-class-sets": Place(Where.SETTING, Owner.CLOUD),
        "os-quota-sets": Place(Where.SETTING, Owner.CLOUD, note="a project of three sites may use three times as much"),
        "os-security-group-default-rules": _GONE,
        "os-security-group-rules": Place(Where.EACH, Owner.PROJECT, note="what Nova passes on to its site's Neutron, in old microversions"),
        "os-security-groups": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-server-external-events": Place(Where.EACH, Owner.SITE, note="what a site's services tell its Nova"),
        "os-server-groups": Place(Where.ONE, Owner.PROJECT, note="its policy holds among the servers of its site"),
        "os-services": Place(Where.ONE, Owner.SITE, note="by number before microversion 2.53: of the site that is asked"),
        "os-simple-tenant-usage": Place(Where.VIEW, Owner.PROJECT, fixed=True, note="the sums of all sites"),
        "os-snapshots": _NO_STORAGE,
        "os-tenant-networks": Place(Where.VIEW, Owner.PROJECT, note=_PROXY),
        "os-volumes": _NO_STORAGE,
        "os-volumes_boot": Place(Where.EACH, Owner.PROJECT, note="Nova answers it as `servers`, of this site; no client uses it"),
        "servers": Place(Where.ONE, Owner.PROJECT, note="several that a scope makes at once are tied together, each with an id of its own"),
        "versions": Place(Where.EACH, Owner.SITE, fixed=True, note="the version document"),
    },
    "image": {
        "cache": Place(Where.EACH, Owner.SITE, note="of this site's Glance"),
        "images": Place(Where.COPIES, Owner.PROJECT, note="brought in chunks; the property `atoll_keep` says where copies are kept"),
        "info": Place(Where.EACH, Owner.SITE, fixed=True, note="of this site's Glance"),
        "metadefs": Place(Where.EACH, Owner.CLOUD, note="each site has its own definitions, which upstream's files are"),
        "tasks": Place(Where.ONE, Owner.PROJECT, fixed=True, note="Glance makes one for an import, at the site that has the image"),
    },
    "network": {
        "address-groups": _PROJECTS,
        "address-scopes": _PROJECTS,
        "agents": Place(Where.ONE, Owner.SITE),
        "auto-allocated-topology": Place(Where.EACH, Owner.PROJECT, note="it is made at the site that is asked"),
        "availability_zones": _VIEW,
        "bgp-peers": _PROJECTS,
        "bgp-speakers": _PROJECTS,
        "bgpvpn/bgpvpns": _PROJECTS,
        "default-security-group-rules": Place(Where.EACH, Owner.CLOUD, note="each site has its own"),
        "flavors": _CLOUDS,
        "floatingip-pools": _VIEW,
        "floatingips": Place(Where.ONE, Owner.PROJECT, note="it leads to ports of its own site"),
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
            note="brought with its subnets; each site's part of it is local. An external network stays at its site, and is never brought",
        ),
        "ports": Place(Where.ONE, Owner.PROJECT, note="it moves to the site of its server as long as nothing uses it"),
        "qos/alias-bandwidth-limit-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-dscp-marking-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-minimum-bandwidth-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/alias-minimum-packet-rate-rules": Place(Where.ONE, Owner.PROJECT, note="a rule of a QoS policy by its own id"),
        "qos/policies": _PROJECTS,
        "qos/rule-types": _VIEW,
        "quotas": Place(Where.SETTING, Owner.CLOUD),
        "rbac-policies": Place(Where.ONE, Owner.PROJECT, note="at the site where its object was made, whichever site is asked"),
        "routers": Place(Where.ONE, Owner.PROJECT, note="with a gateway, it is made at the site of the external network"),
        "security-group-rules": Place(Where.COPIES, Owner.PROJECT, note="it is wherever its group is"),
        "security-groups": Place(Where.COPIES, Owner.PROJECT, note="brought with its rules; a project's `default` has one id at all sites"),
        "security-groups-default-statefulness": Place(Where.ONE, Owner.PROJECT),
        "segments": _CLOUDS,
        "service-providers": _VIEW,
        "service_profiles": _CLOUDS,
        "sfc/flow_classifiers": _PROJECTS,
        "sfc/port_chains": _PROJECTS,
        "sfc/port_pair_groups": _PROJECTS,
        "sfc/port_pairs": _PROJECTS,
        "subnetpools": _PROJECTS,
        "subnets": Place(Where.COPIES, Owner.PROJECT, note="it is wherever its network is"),
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
"""By service and path of the collection, without the API's version. What is below a resource is where that is."""

VERSIONS: Mapping[str, str] = {"compute": "v2.1", "image": "v2", "network": "v2.0"}
"""First part of the paths of each service."""


def collection_of(service: str, path: str) -> str:
    """Return the key of `PLACES` for a path of an API.

    Args:
        service: the service.
        path: of a collection, or of what is below one (`/v2.0/qos/policies/{id}/tags`).
    """
    parts = path.strip("/").split("/")[1:]
    if service == "network" and len(parts) > 1 and not parts[1].startswith("{"):
        return "/".join(parts[:2])
    return parts[0] if parts else ""
