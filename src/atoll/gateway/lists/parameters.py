"""The gateway's handling of each list of a service and of each parameter of it: the table of docs/reference/lists.md.

The lists and parameters are read from the installed services (`atoll.services.upstream_lists`). A test fails if upstream adds one that is
neither here nor in the table of routes. The gateway itself passes unknown parameters to each site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from atoll.gateway.lists.incomplete import LOOK_UPS
from atoll.gateway.lists.order import Style
from atoll.gateway.resolve.routes import Operation, Route, match


class Handling(Enum):
    """The source of the answer to a list request."""

    MERGED = "all sites, merged"
    SUMMED = "all sites, combined into one answer"
    AT_RESOURCE = "the site of the resource"
    AT_COPY = "this site's copy of the resource, else another one's"
    HERE = "this site"


class Treatment(Enum):
    """The gateway's treatment of a parameter."""

    FILTER = "each site filters"
    LOOK_UP = "each site filters; 503 if nothing is found while a site is away"
    ORDER = "order of the merged list"
    PAGE = "page of the merged list"
    FIELDS = "fields of the answer; the sites are also asked for the fields that merging needs"
    SERVICE = "handled by the service of the one site"


_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_SOME_ID = "0" * 8 + "-0000-4000-8000-" + "0" * 12

_ORDER = frozenset(("sort", "sort_key", "sort_dir"))
_PAGES = frozenset(("limit", "marker", "offset", "page_reverse"))

FILTERS: Mapping[str, frozenset[str]] = {
    "servers": frozenset(
        (
            *("access_ip_v4", "access_ip_v6", "all_tenants", "auto_disk_config", "availability_zone", "changes-before", "changes-since"),
            *("config_drive", "created_at", "deleted", "description", "display_description", "flavor", "host", "hostname", "image"),
            *("image_ref", "ip", "ip6", "kernel_id", "key_name", "launch_index", "launched_at", "locked", "locked_by", "node"),
            *("not-tags", "not-tags-any", "power_state", "progress", "project_id", "ramdisk_id", "reservation_id", "root_device_name"),
            *("soft_deleted", "status", "tags", "tags-any", "task_state", "tenant_id", "terminated_at", "user_id", "vm_state"),
            # Nova knows these parameters only to refuse them.
            *("block_device_mapping", "info_cache", "metadata", "pci_devices", "security_groups", "services", "system_metadata"),
        )
    ),
    "flavors": frozenset(("is_public", "minDisk", "minRam")),
    "keypairs": frozenset(("user_id",)),
    "server_groups": frozenset(("all_projects",)),
    "hypervisors": frozenset(("with_servers",)),
    "services": frozenset(("binary", "host")),
    "migrations": frozenset(
        (
            *("changes-before", "changes-since", "hidden", "host", "instance_uuid", "migration_type", "project_id", "source_compute"),
            *("status", "user_id"),
        )
    ),
    "hosts": frozenset(("zone",)),
    "security_groups": frozenset(("all_tenants",)),
    "images": frozenset(
        (
            *("changes-since", "minDisk", "minRam", "page_size", "server", "status", "type"),  # Nova's
            *("checksum", "container_format", "created_at", "direct_url", "disk_format", "file", "locations", "member_status", "min_disk"),
            *("min_ram", "os_hash_algo", "os_hash_value", "os_hidden", "owner", "protected", "schema", "self", "size", "size_max"),
            *("size_min", "status", "stores", "tag", "tags", "updated_at", "virtual_size", "visibility"),
        )
    ),
    "tasks": frozenset(("status", "type")),
    "limits": frozenset(("tenant_id",)),
    "os-simple-tenant-usage": frozenset(("detailed", "end", "start")),
}
"""Nova's and Glance's filters, by list. Neutron's are the attributes of a resource."""

HERE: Mapping[str, str] = {
    "/v2.1": "it describes the API",
    "/v2.1/extensions": "it describes the API",
    "/v2.1/os-aggregates": "each site numbers its own",
    "/v2.1/os-baremetal-nodes": "there is no Ironic",
    "/v2.1/os-instance_usage_audit_log": "a log of this site's hosts",
    "/v2.1/os-quota-sets": "each site has its own; `limits` is the sum",
    "/v2.1/os-snapshots": "there is no block storage",
    "/v2.1/os-volumes": "there is no block storage",
    "/v2.1/os-volumes_boot": "Nova answers it as `/servers`, of this site; no client uses it",
    "/v2/cache": "it describes this site's Glance",
    "/v2/info": "it describes this site's Glance",
    "/v2/metadefs": "each site has its own definitions, from upstream's files",
    "/v2.0/auto-allocated-topology": "the topology is created at this site",
    "/v2.0/default-security-group-rules": "each site has its own",
    "/v2.0/quotas": "each site has its own",
}
"""Reasons why only this site answers a list, by the beginning of the list's path."""


def concrete(path: str) -> str:
    """Return a path with an id in place of each name in braces."""
    return _PLACEHOLDER.sub(_SOME_ID, path)


def handling(service: str, path: str) -> tuple[Handling, str]:
    """Return the source of the answer to a list, and the reason if only this site answers; otherwise an empty string.

    Args:
        service: the service.
        path: the list's path, with names in braces for ids.

    Raises:
        LookupError: only this site answers, and `HERE` lists no reason.
    """
    route = match("GET", service, concrete(path))
    if route.operation is Operation.LOCAL:
        why = [text for start, text in HERE.items() if path == start or (start.count("/") > 1 and path.startswith(f"{start}/"))]
        if not why:
            raise LookupError(f"{service} {path}: expected a reason in `HERE` why only this site is asked")
        return Handling.HERE, why[-1]
    return _HANDLING.get(route.operation) or _at(route), ""


_HANDLING = {Operation.LIST: Handling.MERGED, Operation.MERGE: Handling.SUMMED}


def _at(route: Route) -> Handling:
    return Handling.AT_COPY if route.resource is not None and route.resource.copies else Handling.AT_RESOURCE


def treatment(service: str, path: str, name: str) -> Treatment:
    """Return the gateway's treatment of a parameter of a list.

    Args:
        service: the service.
        path: the path of the list.
        name: the parameter.

    Raises:
        LookupError: the parameter is unknown.
    """
    route = match("GET", service, concrete(path))
    if route.operation not in _HANDLING:
        return Treatment.SERVICE
    resource = route.resource
    kind = resource.key if resource is not None else route.name
    if name in _PAGES:
        return Treatment.PAGE
    if name in LOOK_UPS[service]:
        return Treatment.LOOK_UP
    if resource is not None and name in _ORDER:
        return Treatment.ORDER
    if resource is not None and resource.style is Style.NETWORK:
        return Treatment.FIELDS if name == "fields" else Treatment.FILTER
    if name in FILTERS.get(kind, ()):
        return Treatment.FILTER
    raise LookupError(f"{service} {path}: expected a treatment of the parameter {name}")
