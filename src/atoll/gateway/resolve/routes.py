"""Which of a service's paths mean what: the one table that tells the gateway where a request belongs.

What is not in the table is answered by the site's own service: Keystone, Placement, what describes a service (schemas, extensions), and
what numbers its resources itself (Nova's aggregates: number 1 is another one at each site).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache

from atoll.gateway.lists.order import Style
from atoll.gateway.resolve.references import PREFIXES


class Operation(Enum):
    """What the gateway has to do."""

    LOCAL = auto()
    LIST = auto()
    """The union of all sites' lists."""
    MERGE = auto()
    """One answer made of all sites' answers, in another way than a list; see `merge`."""
    CREATE = auto()
    ITEM = auto()
    """About one resource, which is at one site."""
    EVERYWHERE = auto()
    """For all sites: a setting that each has, or a resource that several may hold under one id."""


NEVER = (0, 0)
"""No microversion: ids were always UUIDs."""


@dataclass(frozen=True)
class Resource:
    """One type of resource.

    Attributes:
        service: whose it is.
        key: of the list in an answer.
        item: of one of them in an answer.
        style: how lists are sorted and paged.
        copies: several sites may hold the same one, under one id.
        cursor: lists may be long, and ids are at one site only: pages are read site by site, see `union.Walk`.
        wrapped: each item of a list is an object with `item` as its only key.
        identity: fields that make items of several sites one, if the id does not.
        uuid: ids are UUIDs, so that whatever else is in their place is a name and nobody's id.
        counted_before: Nova's microversion since which ids are UUIDs; before, each site counts them for itself.
        moves: it may be at another site than before, under the same id.
        brief: fields of an item in the list without detail.
        zone: the field that may name a site when one is created.
        marker: the field that markers of pages name.
        paged_since: Nova's microversion since which `limit` and `marker` count; before, Nova ignores them.
        offset: pages are cut by `limit` and `offset`, and have no links.
        linked: a page that is full leads to the next one.
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
    """What a request is about.

    Attributes:
        operation: what to do.
        resource: of which type; None for LOCAL and some others.
        id: of the resource.
        base: the path of the resource itself, for looking whether it is there; or of the collection.
        name: what `merge` calls it.
        detail: a list with all fields.
        child: the path goes on below the resource.
    """

    operation: Operation
    resource: Resource | None = None
    id: str = ""
    base: str = ""
    name: str = ""
    detail: bool = False
    child: bool = False


LOCAL = Route(Operation.LOCAL)


def _nova(key: str, item: str, style: Style = Style.UNSORTED, **more: object) -> Resource:
    return Resource("compute", key, item, style, **more)  # type: ignore[arg-type]


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
"""What Nova shows of other services, and of its hosts, up to microversions 2.35 and 2.42: read at all sites, and changed at this one."""

_AVAILABILITIES = "network-ip-availabilities"
_NETWORK_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "availability_zones": ("name", "resource"),
    _AVAILABILITIES: ("network_id",),
}
"""What makes items of several sites one where it is not the id."""

_NETWORK_COPIES = frozenset(("networks", "subnets", "security-groups", "security-group-rules"))
_NETWORK_LOCAL = frozenset(("extensions", "quotas", "auto-allocated-topology", "default-security-group-rules"))
IMAGES = Resource("image", "images", "image", Style.IMAGES, copies=True)
_TASKS = Resource("image", "tasks", "task", Style.IMAGES)

_DATA = frozenset(("file", "stage", "import"))
"""Below an image: what makes its data come to the one site where it is made."""

_IMAGE_DATA = re.compile(r"/v2/images/[^/]+/(file|stage)/?")

_MERGED = frozenset(("limits", "os-availability-zone", "os-simple-tenant-usage"))
_SETTINGS = frozenset(("os-quota-sets", "os-quota-class-sets"))
_PROJECT = re.compile(r"[0-9a-f]{32}")


def named(route: Route) -> bool:
    """Return whether a request names its resource by what a user has called it: nobody else's then, wherever it is."""
    return route.resource is not None and route.resource.identity == ("name",) and bool(route.id)


def is_image_data(service: str, path: str) -> bool:
    """Return whether a path is that of an image's data: the one body, and the one answer, that is not held in memory."""
    return service == "image" and bool(_IMAGE_DATA.fullmatch(path))


def match(method: str, service: str, path: str) -> Route:
    """Find out what a request is about."""
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
    """Return the type that Neutron calls `name` in paths: its collections are all alike.

    A client may ask for any name, so only the latest ones are kept.
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
    """`start`: how many parts the path of the collection has."""
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
