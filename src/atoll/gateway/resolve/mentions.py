"""Reads the references in requests and resources, by the table in `references`. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.gateway.request.call import Call
from atoll.gateway.resolve import references as table
from atoll.gateway.resolve.references import FLAVOR, IMAGE, Action, Field


@dataclass(frozen=True, order=True)
class Reference:
    """A resource that a request refers to.

    Attributes:
        kind: the kind of the resource, as in the table.
        id: the resource's id; the name of a key pair or host; the address of a floating IP; the id or name of a security group (for Nova).
    """

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True)
class Mention:
    """A field of a request that refers to a resource.

    Attributes:
        reference: the resource.
        field: the field's row of the table.
    """

    reference: Reference
    field: Field

    @property
    def order(self) -> tuple[int, Reference]:
        """The sort key by which resources are brought."""
        kind = self.reference.kind
        return (table.ORDER.index(kind) if kind in table.ORDER else len(table.ORDER), self.reference)


_LOOKED_FOR = frozenset((Action.BRING, Action.MOVE, Action.REFUSE))
"""Actions on resources that may be at another site."""


def mentions(call: Call) -> list[Mention]:
    """Return the fields of a request that refer to resources which may be at another site, each resource once, in the order of bringing.

    Args:
        call: a request; without a JSON body, it has no references.
    """
    fields = _fields(call)
    if not fields or call.value is None:
        return []
    body = call.value
    found: dict[Reference, Mention] = {}
    for item in _items(call, body):
        for mention in _read(fields, item, urls=call.service == "compute"):
            found.setdefault(mention.reference, mention)
    return sorted(found.values(), key=lambda mention: mention.order)


def references(call: Call) -> list[Reference]:
    """Return the resources that a request refers to and that may be brought or moved to this site."""
    return [mention.reference for mention in mentions(call) if mention.field.action is not Action.REFUSE]


def named_by(kind: str, resource: Mapping[str, Any]) -> list[Mention]:
    """Return the references in a resource, which has the fields of the request that creates it.

    Args:
        kind: the kind of the resource.
        resource: the resource's fields, as a service shows them.
    """
    where = table.KINDS[kind]
    name = where.path.rpartition("/")[2].replace("-", "_")
    fields = (table.IMAGES if where.service == "image" else table.NETWORKING).get(name, ()) if where.service != "compute" else ()
    named = (field for field in fields if field.action in _LOOKED_FOR and not field.implied and not field.by_value)
    found = {mention.reference: mention for mention in _read(named, resource, urls=False)}
    return sorted(found.values(), key=lambda mention: mention.order)


def parents_of(collection: str, item: Mapping[str, Any]) -> list[Reference]:
    """Return the parents of a new Neutron resource: if this site lacks one, the creation goes to the parent's site.

    Args:
        collection: the key of the new resource's collection in a body (`security_group_rules`).
        item: the new resource's fields, as a client gives them.
    """
    return list(dict.fromkeys(mention.reference for mention in _read(_leading(collection), item, urls=False)))


def leading(collection: str) -> list[str]:
    """Return the names of the fields that `parents_of` reads."""
    return [field.path.partition(".")[0].removesuffix("[]") for field in _leading(collection)]


def _leading(collection: str) -> list[Field]:
    return [field for field in table.NETWORKING.get(collection, ()) if field.leads and field.kind in table.KINDS]


def template(service: str, path: str) -> str:
    """Return a path as in the table: without version, project and plug-in prefix, and with `{}` for ids."""
    parts = [part for part in path.split("/") if part]
    if service == "compute":
        return _compute_template(parts)
    name = parts[1:]
    if service == "network":
        name = [part.removesuffix(".json").replace("-", "_") for part in name]
        name = name[1:] if name and name[0] in table.PREFIXES and len(name) > 1 else name
    # Every second segment is an id. The path of a single resource has the fields of its collection.
    shown = [part if index % 2 == 0 else "{}" for index, part in enumerate(name)]
    return "/".join(shown[:-1] if service == "network" and len(shown) % 2 == 0 else shown)


def _compute_template(parts: Sequence[str]) -> str:
    start = 2 if len(parts) > 1 and _PROJECT.fullmatch(parts[1]) else 1
    return "/".join(part if index % 2 == 0 else "{}" for index, part in enumerate(parts[start:]))


_PROJECT = re.compile(r"[0-9a-f-]{32,36}")


def early_fields(call: Call) -> tuple[Field, ...]:
    """Return the fields of a request that must be examined before the request is sent to its service."""
    return tuple(field for field in fields_of(call) if field.ahead)


def involves_default(call: Call, group: str) -> bool:
    """Return whether a request refers to a project's security group `default`, or names no group, so that Neutron uses `default`.

    Args:
        call: the request.
        group: the id of the project's group.
    """
    fields = [field for field in fields_of(call) if field.kind == table.SECURITY_GROUP]
    body = call.value if fields else None
    for item in _items(call, body) if body else ():
        for field in fields:
            values = [value for value, _beside in _given(item, field.path.split("."))]
            if any(value in (group, "default") for value in values):
                return True
            if field.implied and call.method == "POST" and not any(values):
                return True
    return False


def given_ids(call: Call) -> list[str]:
    """Return the ids that a request gives to the resources it creates."""
    return [str(item["id"]) for item in _items(call, call.value) if item.get("id")] if call.value is not None else []


def _given(item: Mapping[str, Any], path: Sequence[str]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield the values at a path as `_values` does, and also `None` for missing fields, and empty lists."""
    *before, last = path
    for holder, beside in _values(item, before, item) if before else ((item, item),):
        if isinstance(holder, dict):
            value = holder.get(last.removesuffix("[]"))
            values = value if isinstance(value, list) and last.endswith("[]") else (value,)
            yield from ((each, beside) for each in values)


def fields_of(call: Call) -> tuple[Field, ...]:
    """Return all fields of a request that may refer to a resource."""
    if call.method not in {"POST", "PUT", "PATCH"}:
        return ()
    name = template(call.service, call.path)
    if call.service == "image" and call.method == "PATCH":
        name = name.removesuffix("/{}")
    return _TABLES.get(call.service, {}).get(name, ())


_TABLES: Mapping[str, Mapping[str, tuple[Field, ...]]] = {"compute": table.COMPUTE, "network": table.NETWORKING, "image": table.IMAGES}


def _fields(call: Call) -> tuple[Field, ...]:
    """Return the fields of a request that may refer to a resource at another site."""
    every = fields_of(call)
    return tuple(field for field in every if field.action in _LOOKED_FOR and not field.implied)


def _items(call: Call, body: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a body that may have fields which refer to other resources."""
    if call.service == "image":
        yield from _changed(body) if isinstance(body, list) else _mapping(body)
    elif call.service == "network" and call.path.removesuffix(".json").rpartition("/")[2].replace("-", "_") not in table.ACTIONS:
        for value in body.values() if isinstance(body, dict) else ():
            yield from _mapping(value)
            yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
    else:
        yield from _mapping(body)


def _mapping(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value


def _changed(patch: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the fields that a JSON patch sets (RFC 6902)."""
    for change in patch:
        path = change.get("path") if isinstance(change, dict) else None
        if isinstance(path, str) and change.get("op") != "remove":
            yield {path.lstrip("/"): change.get("value")}


def _read(fields: Iterable[Field], item: Mapping[str, Any], *, urls: bool) -> Iterator[Mention]:
    for field in fields:
        for value, beside in _values(item, field.path.split("."), item):
            if isinstance(value, str) and value and _applies(field, beside):
                name = value.rstrip("/").rpartition("/")[2] if urls and field.kind in {IMAGE, FLAVOR} else value
                if name:
                    yield Mention(Reference(field.kind, name), field)


def _applies(field: Field, beside: Mapping[str, Any]) -> bool:
    return field.when is None or beside.get(field.when[0]) == field.when[1]


def _values(node: Any, path: Sequence[str], beside: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield the values at a path, each with the object that contains its field."""
    if not path:
        if not isinstance(node, list):
            yield node, beside
        return
    if not isinstance(node, dict):
        return
    name, several = path[0].removesuffix("[]"), path[0].endswith("[]")
    for value in node.values() if name == "*" else (node.get(name),):
        for each in (value if isinstance(value, list) else ()) if several else (value,):
            yield from _values(each, path[1:], node)
