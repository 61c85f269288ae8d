"""The table of resources: the operation and the resource that each path of a service means.

A path that is not in the table is answered by the site's own service: Keystone, Placement, descriptions of a service (schemas, extensions),
and resources that each site numbers itself (Nova's aggregates: number 1 is another aggregate at each site).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from atoll.gateway.lists.order import Style
from atoll.gateway.resolve.references import PREFIXES


class Operation(Enum):
    """The way in which the gateway answers a request."""

    LOCAL = auto()
    """Answered by this site's own service."""
    LIST = auto()
    """The union of all sites' lists."""
    MERGE = auto()
    """An answer merged from all sites' answers, but not a list; see `lists.aggregator`."""
    CREATE = auto()
    """The creation of resources."""
    ITEM = auto()
    """A request about one resource, which is at one site."""
    EVERYWHERE = auto()
    """A request for all sites: about a setting that each site has, or a resource of which several sites may hold copies under one id."""


NEVER = (0, 0)
"""The value of `Resource.counted_before` if ids were always UUIDs."""


@dataclass(frozen=True)
class Resource:
    """One type of resource.

    Attributes:
        service: the service of the resource.
        key: the key of a list in an answer.
        item: the key of a single resource in an answer.
        style: how lists are sorted and paged.
        copies: whether several sites may hold copies of a resource under one id.
        cursor: whether pages are read site by site, because lists may be long and each id is at one site; see `union.PagedMerge`.
        wrapped: whether each item of a list is an object with `item` as its only key.
        identity: the fields that are equal in items of several sites if, and only if, they are the same resource.
        uuid: whether ids are UUIDs, so that any other text in their place is a name.
        counted_before: the first microversion of Nova in which ids are UUIDs; before it, each site numbers its resources.
        moves: whether a resource may move to another site under the same id.
        brief: the fields of an item in the list without detail.
        zone: the field that may name a site in a creation request.
        marker: the field whose value is the marker of a page.
        paged_since: the first microversion of Nova in which `limit` and `marker` have an effect.
        offset: whether pages are cut by `limit` and `offset`, without links.
        linked: whether a full page has a link to the next one.
    """

    service: str
    key: str
    item: str
    style: Style
    copies: bool = False
    cursor: bool = False
    wrapped: bool = False
    identity: tuple[str, ...] = ("id",)
    uuid: bool = True
    counted_before: tuple[int, int] = NEVER
    moves: bool = False
    brief: tuple[str, ...] = ()
    zone: str = ""
    marker: str = "id"
    paged_since: tuple[int, int] = NEVER
    offset: bool = False
    linked: bool = False


@dataclass(frozen=True)
class Route:
    """The meaning of a request's method and path.

    Attributes:
        operation: the way in which the gateway answers.
        resource: the type of the resource; `None` for local requests, merged answers and settings.
        id: the id of the resource; empty if the path names a collection.
        base: the path of the resource itself, or of the collection.
        name: the name of the merged answer, see `lists.aggregator`.
        detail: whether the items of a list have all fields.
        child: whether the path continues below the resource.
    """

    operation: Operation
    resource: Resource | None = None
    id: str = ""
    base: str = ""
    name: str = ""
    detail: bool = False
    child: bool = False


LOCAL = Route(Operation.LOCAL)
"""The route of all requests that this site's own service answers."""


def _nova(key: str, item: str, style: Style = Style.UNSORTED, **more: Any) -> Resource:
    return Resource("compute", key, item, style, **more)


COMPUTE: Mapping[str, Resource] = {
    "servers": _nova("servers", "server", Style.SERVERS, cursor=True, brief=("id", "name", "links"), zone="availability_zone", linked=True),
    "flavors": _nova(
        "flavors", "flavor", Style.FLAVORS, copies=True, uuid=False, brief=("id", "name", "description", "links"), linked=True,
    ),
    "os-keypairs": replace(
        _nova("keypairs", "keypair", Style.KEYPAIRS, copies=True, uuid=False, wrapped=True, identity=("name",)),
        marker="name", paged_since=(2, 35), linked=True,
    ),
    "os-server-groups": _nova("server_groups", "server_group", offset=True),
    "os-hypervisors": replace(
        _nova("hypervisors", "hypervisor", Style.HYPERVISORS, uuid=False, counted_before=(2, 53), identity=("hypervisor_hostname", "id")),
        linked=True,
    ),
    "os-services": _nova("services", "service", uuid=False, counted_before=(2, 53), identity=("host", "binary", "id")),
    "os-migrations": replace(
        _nova("migrations", "migration", Style.MIGRATIONS, identity=("uuid", "id", "created_at")),
        marker="uuid", paged_since=(2, 59), linked=True,
    ),
}  # fmt: skip

PROXIES: Mapping[str, Resource] = {
    "images": _nova("images", "image", Style.IMAGE_PROXY, brief=("id", "name", "links"), linked=True),
    "os-floating-ip-pools": _nova("floating_ip_pools", "floating_ip_pool", uuid=False, identity=("name",)),
    "os-floating-ips": _nova("floating_ips", "floating_ip"),
    "os-hosts": _nova("hosts", "host", uuid=False, identity=("host_name", "service")),
    "os-networks": _nova("networks", "network"),
    "os-security-groups": _nova("security_groups", "security_group", offset=True),
    "os-tenant-networks": _nova("networks", "network"),
}
"""Nova's proxies for other services and its hosts, up to microversions 2.35 and 2.42: read at all sites, changed at this one."""

_AVAILABILITIES = "network-ip-availabilities"
_NETWORK_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "availability_zones": ("name", "resource"),
    _AVAILABILITIES: ("network_id",),
}
"""Neutron collections whose items are the same resource if these fields are equal, instead of the id."""

_NETWORK_COPIES = frozenset(("networks", "subnets", "security-groups", "security-group-rules"))
_NETWORK_LOCAL = frozenset(("extensions", "quotas", "auto-allocated-topology", "default-security-group-rules"))
IMAGES = Resource("image", "images", "image", Style.IMAGES, copies=True)
_TASKS = Resource("image", "tasks", "task", Style.IMAGES)

_DATA = frozenset(("file", "stage", "import"))
"""Children of an image by which its data get to one site."""

_IMAGE_DATA = re.compile(r"/v2/images/[^/]+/(file|stage)/?")

_MERGED = frozenset(("limits", "os-availability-zone", "os-simple-tenant-usage"))
_SETTINGS = frozenset(("os-quota-sets", "os-quota-class-sets"))
_PROJECT = re.compile(r"[0-9a-f]{32}")


def named(route: Route) -> bool:
    """Return whether a request identifies its resource by a name that is unique among its user's names in the whole cloud."""
    return route.resource is not None and route.resource.identity == ("name",) and bool(route.id)


def is_image_data(service: str, path: str) -> bool:
    """Return whether a path is that of image data, the only body and the only answer that are not held in memory."""
    return service == "image" and bool(_IMAGE_DATA.fullmatch(path))


def match(method: str, service: str, path: str) -> Route:
    """Return the route of a request."""
    parts = path.split("/")[1:]
    if parts[-1] == "":
        parts.pop()
    if service == "compute":
        return _match_compute(method, parts)
    if service == "network":
        return _match_network(method, parts)
    if service == "image" and parts[:2] == ["v2", "images"]:
        return _match_resource(method, IMAGES, parts, 2)
    if service == "image" and parts[:2] == ["v2", "tasks"] and method == "GET":
        return _match_resource(method, _TASKS, parts, 2)
    return LOCAL


def _match_compute(method: str, parts: list[str]) -> Route:
    start = 2 if len(parts) > 1 and _PROJECT.fullmatch(parts[1]) else 1
    if len(parts) <= start or parts[0] not in {"v2.1", "v2"}:
        return LOCAL
    name = parts[start]
    resource = COMPUTE.get(name) or (PROXIES.get(name) if method == "GET" else None)
    rest = parts[start + 1 :]
    if name in _MERGED or (name == "os-hypervisors" and rest == ["statistics"]):
        return Route(Operation.MERGE, name="hypervisor_statistics" if rest == ["statistics"] else name) if method == "GET" else LOCAL
    if name in _SETTINGS:
        return LOCAL if method == "GET" else Route(Operation.EVERYWHERE)
    if resource is None:
        return LOCAL
    if rest == ["detail"] and method == "GET":
        return Route(Operation.LIST, resource, base="/" + "/".join(parts[: start + 1]), detail=True)
    return _match_resource(method, resource, parts, start + 1)


def _match_network(method: str, parts: list[str]) -> Route:
    if len(parts) < 2 or parts[0] != "v2.0":
        return LOCAL
    name = parts[1].removesuffix(".json")
    if name == "quotas" and method in {"PUT", "DELETE"}:
        return Route(Operation.EVERYWHERE)
    if name in _NETWORK_LOCAL:
        return LOCAL
    if name in PREFIXES:
        return _match_resource(method, network_resource(parts[2].removesuffix(".json")), parts, 3) if len(parts) > 2 else LOCAL
    if name == _AVAILABILITIES and method == "GET" and len(parts) == 3:
        return Route(Operation.MERGE, name=name)
    return _match_resource(method, network_resource(name), parts, 2)


@lru_cache(maxsize=256)
def network_resource(name: str) -> Resource:
    """Return the type of the resources in a Neutron collection, by rules that all collections follow.

    The cache is bounded, because a client may send any name.

    Args:
        name: the name of the collection in paths.
    """
    key = name.replace("-", "_")
    item = key.removesuffix("ies") + "y" if key.endswith("ies") else key.removesuffix("s")
    return Resource(
        "network",
        key,
        item,
        Style.NETWORK,
        copies=name in _NETWORK_COPIES,
        identity=_NETWORK_IDENTITY.get(name, ("id",)),
        moves=name == "ports",
        zone="availability_zone_hints",
    )


def _match_resource(method: str, resource: Resource, parts: list[str], start: int) -> Route:
    """Return the route of a request about a collection or one of its resources.

    Args:
        method: the HTTP method.
        resource: the type of the resources.
        parts: the segments of the path.
        start: the number of segments of the collection's path.
    """
    if len(parts) == start:
        if method == "GET":
            return Route(Operation.LIST, resource, base="/" + "/".join(parts), detail=not resource.brief)
        return Route(Operation.CREATE, resource, base="/" + "/".join(parts)) if method == "POST" else LOCAL
    base = "/" + "/".join(parts[: start + 1])
    writes = method not in {"GET", "HEAD"}
    child = parts[start + 1] if len(parts) > start + 1 else ""
    everywhere = writes and resource.copies and not (resource.service == "image" and child in _DATA)
    operation = Operation.EVERYWHERE if everywhere else Operation.ITEM
    return Route(operation, resource, parts[start].removesuffix(".json"), base, child=bool(child))
