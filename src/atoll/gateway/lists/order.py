"""The order in which the services list their resources: the field of an answer for each sort key, and the tie-breakers.

Taken from Nova 34 (`nova.compute.instance_list`, `nova.db.utils.process_sort_params`, `nova.objects.flavor`), Glance 33
(`glance.api.v2.images`, `glance.db.sqlalchemy.api.image_get_all`) and Neutron 29 (`neutron.api.api_common`). Within one site the order is
that of its own answer, including fields that the answer does not show; this module decides only between the first items of two sites'
lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import total_ordering
from typing import Any

Query = Sequence[tuple[str, str]]
Item = Mapping[str, Any]


class Style(Enum):
    """A service's way of sorting and paging a list."""

    SERVERS = auto()
    FLAVORS = auto()
    KEYPAIRS = auto()
    MIGRATIONS = auto()
    HYPERVISORS = auto()
    IMAGE_PROXY = auto()
    UNSORTED = auto()
    IMAGES = auto()
    NETWORK = auto()


_SERVER_FIELDS = {
    "access_ip_v4": "accessIPv4",
    "access_ip_v6": "accessIPv6",
    "auto_disk_config": "OS-DCF:diskConfig",
    "availability_zone": "OS-EXT-AZ:availability_zone",
    "created_at": "created",
    "display_description": "description",
    "display_name": "name",
    "host": "OS-EXT-SRV-ATTR:host",
    "hostname": "OS-EXT-SRV-ATTR:hostname",
    "image_ref": "image",
    "kernel_id": "OS-EXT-SRV-ATTR:kernel_id",
    "launch_index": "OS-EXT-SRV-ATTR:launch_index",
    "launched_at": "OS-SRV-USG:launched_at",
    "node": "OS-EXT-SRV-ATTR:hypervisor_hostname",
    "power_state": "OS-EXT-STS:power_state",
    "project_id": "tenant_id",
    "ramdisk_id": "OS-EXT-SRV-ATTR:ramdisk_id",
    "root_device_name": "OS-EXT-SRV-ATTR:root_device_name",
    "task_state": "OS-EXT-STS:task_state",
    "terminated_at": "OS-SRV-USG:terminated_at",
    "updated_at": "updated",
    "uuid": "id",
    "vm_state": "OS-EXT-STS:vm_state",
}
"""Nova's sort keys whose field has another name in an answer."""

_IGNORED = frozenset(
    (
        *("architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at"),
        *("disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "locked", "memory_mb", "os_type"),
        *("reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode"),
    )
)
"""Sort keys that Nova ignores (`schemas.servers.SERVER_LIST_IGNORE_SORT_KEY`); `locked` counts since microversion 2.73."""

_LOCKED_SINCE = (2, 73)

_FLAVOR_FIELDS = {
    "disabled": "OS-FLV-DISABLED:disabled",
    "ephemeral_gb": "OS-FLV-EXT-DATA:ephemeral",
    "flavorid": "id",
    "id": "number inside Nova",  # no field of an answer
    "is_public": "os-flavor-access:is_public",
    "memory_mb": "ram",
    "root_gb": "disk",
}


_SERVERS_SHOW = frozenset(("config_drive", "key_name", "locked", "progress", "user_id"))
_FLAVORS_SHOW = frozenset(("description", "name", "rxtx_factor", "swap", "vcpus"))
_IMAGES_SHOW = frozenset(("container_format", "created_at", "disk_format", "id", "name", "size", "status", "updated_at"))
_SHOWN: Mapping[Style, frozenset[str]] = {
    Style.SERVERS: _SERVERS_SHOW,
    Style.FLAVORS: _FLAVORS_SHOW,
    Style.IMAGES: _IMAGES_SHOW,
}
"""Sort keys that are also names of fields in an answer, by style."""

_HIDDEN: Mapping[Style, frozenset[str]] = {
    Style.SERVERS: frozenset(("instance_type_id", "locked_by")),
    Style.FLAVORS: frozenset(("created_at", "id", "updated_at", "vcpu_weight")),
    Style.IMAGES: frozenset(),
}
"""Sort keys whose field no answer shows, so that only the service can sort by them, and several sites' lists can't be merged."""


def sort_field(style: Style, key: str) -> str | None:
    """Return the field of an answer for a sort key; empty if no answer shows it, `None` if the key is unknown.

    Keys that Nova ignores are known, and have no field.
    """
    if style is Style.NETWORK:
        return key
    if key in _HIDDEN.get(style, ()) or (style is Style.SERVERS and key in _IGNORED and key != "locked"):
        return ""
    named = {Style.SERVERS: _SERVER_FIELDS, Style.FLAVORS: _FLAVOR_FIELDS}.get(style, {})
    return named.get(key, key if key in _SHOWN.get(style, ()) else None)


def ignored(style: Style, key: str) -> bool:
    """Return whether a service accepts a sort key and ignores it, at least in some microversions."""
    return style is Style.SERVERS and key in _IGNORED


@total_ordering
class _Falling:
    """A value that sorts in descending order."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Falling) and bool(self.value == other.value)

    def __lt__(self, other: _Falling) -> bool:
        return bool(other.value < self.value)

    def __hash__(self) -> int:
        return hash(self.value)


@dataclass(frozen=True)
class Order:
    """The order of a list.

    Attributes:
        terms: fields of an item, each with `True` if it is descending.
    """

    terms: tuple[tuple[str, bool], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that decide the order."""
        return tuple(name for name, _falls in self.terms if name)

    def key(self, item: Item) -> tuple[Any, ...]:
        """Return the sort key of an item."""
        return tuple([_Falling(_value(item, name)) if falls else _value(item, name) for name, falls in self.terms])


def _rank(value: Any) -> tuple[int, Any]:
    """Return a value's rank in SQLite's order: null before numbers, numbers before text, and text by its code points."""
    if value is None:
        return (0, 0)
    if isinstance(value, int | float):
        return (1, value)
    if isinstance(value, dict):
        value = value.get("id", "")  # a server's image
    return (2, str(value))


_SPELLED = frozenset(("OS-DCF:diskConfig", "swap"))
_NUMBERS: Mapping[tuple[str, Any], int] = {("OS-DCF:diskConfig", "MANUAL"): 0, ("OS-DCF:diskConfig", "AUTO"): 1, ("swap", ""): 0}
"""Values that an answer shows as text and the service's database holds as numbers."""


def _value(item: Item, name: str) -> tuple[int, Any]:
    value = item.get(name)
    return _rank(_NUMBERS.get((name, value), value) if name in _SPELLED else value)


def order(style: Style, query: Query, version: tuple[int, int] = (2, 1)) -> Order:
    """Return the order that a request asks for.

    Args:
        style: the style of the list.
        query: the parameters.
        version: Nova's microversion.
    """
    if style is Style.SERVERS:
        return _servers(query, version)
    return _ORDERS[style](query)


def _values(query: Query, name: str) -> list[str]:
    return [value.strip() for key, value in query if key == name]


def _servers(query: Query, version: tuple[int, int]) -> Order:
    keys = _values(query, "sort_key")
    falls = [value != "asc" for value in _values(query, "sort_dir")]
    for key in [key for key in keys if key in _IGNORED and not (key == "locked" and version >= _LOCKED_SINCE)]:
        at = keys.index(key)
        del keys[at], falls[at : at + 1]
    keys, falls = keys or ["created_at"], falls or [True]
    if "uuid" not in keys:
        keys, falls = [*keys, "uuid"], [*falls, False]
    falls += [falls[0]] * (len(keys) - len(falls))
    return Order(tuple((_SERVER_FIELDS.get(key, key), fall) for key, fall in zip(keys, falls, strict=False)))


def _flavors(query: Query) -> Order:
    key = (_values(query, "sort_key") or ["flavorid"])[-1]
    falls = (_values(query, "sort_dir") or ["asc"])[-1] == "desc"
    return Order(((_FLAVOR_FIELDS.get(key, key), falls), ("id", falls)))


def _images(query: Query) -> Order:
    new = [pair.partition(":") for value in _values(query, "sort") for pair in value.split(",")]
    keys = [key.strip() for key, _colon, _fall in new] or _values(query, "sort_key") or ["created_at"]
    directions = [fall.strip() or "desc" for _key, _colon, fall in new] or _values(query, "sort_dir") or ["desc"]
    falls = [value != "asc" for value in directions]
    default = falls[0] if len(falls) == 1 else True
    falls += [default] * (len(keys) - len(falls))
    for key in ("created_at", "id"):
        if key not in keys:
            keys, falls = [*keys, key], [*falls, default]
    return Order(tuple(zip(keys, falls, strict=False)))


def _network(query: Query) -> Order:
    terms = [(key, fall == "desc") for key, fall in zip(_values(query, "sort_key"), _values(query, "sort_dir"), strict=False)]
    return Order((*terms, ("id", False)))


_ORDERS: Mapping[Style, Callable[[Query], Order]] = {
    Style.FLAVORS: _flavors,
    Style.IMAGES: _images,
    Style.NETWORK: _network,
    Style.KEYPAIRS: lambda _query: Order((("name", False),)),
    Style.MIGRATIONS: lambda _query: Order((("created_at", True),)),
    Style.HYPERVISORS: lambda _query: Order(()),
    Style.IMAGE_PROXY: lambda _query: Order((("created", True), ("id", True))),
    Style.UNSORTED: lambda _query: Order(()),
}
