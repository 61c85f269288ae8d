"""What a site may write about identity: the document's rules for these kinds.

A member of the cloud may administer identity, so what it says is believed; but only what the tables can take. Whatever this version
does not know the name of is let pass and never applied: another site may run a later one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from atoll.mesh.identity.tables import EXTRA, KINDS, NO_DOMAIN, Many, Table, Whole, encode, field_name, parts
from atoll.mesh.record import CREATED, PRESENT, Json, Refused, Rule


def rules() -> dict[str, Rule]:
    """The rule of each kind."""
    return {kind: _rule(table) for kind, table in KINDS.items()}


def _rule(table: Table) -> Rule:
    def check(author: str, key: str, fields: Mapping[str, Json]) -> None:
        _check_key(table, author, key)
        for name, value in fields.items():
            if not _fits(table, name, value):
                raise Refused(f"{author} gives {name!r:.100} of {table.kind} {key!r:.100} a value that it can't have")

    return check


def _check_key(table: Table, author: str, key: str) -> None:
    values = parts(key)
    if len(values) != len(table.key) or encode(values) != key:
        raise Refused(f"{author} writes of a {table.kind} with the malformed key {key!r:.100}")
    if table.kind == "project" and values[0] == NO_DOMAIN:
        raise Refused(f"{author} writes of the domain of domains, which every site has for itself")
    for column, value in zip(table.key, values, strict=True):
        if column == "inherited" and value not in {"0", "1"}:
            raise Refused(f"{author} writes of a {table.kind} with the malformed key {key!r:.100}")


def _fits(table: Table, name: str, value: Json) -> bool:
    if name == PRESENT:
        return isinstance(value, bool)
    if name == CREATED:
        return type(value) is int and value >= 0
    if name in table.plain:
        whole = next((other for other in table.others if isinstance(other, Whole) and other.field == name), None)
        return _is_whole(whole, value) if whole else _is_scalar(value)
    prefix = name.partition(".")[0]
    if value is None or prefix not in table.prefixes:
        return True
    if prefix == EXTRA:
        return _is_row(value, 2) and name == field_name(EXTRA, value[:1]) and _is_json(value[1])
    many = next(other for other in table.others if isinstance(other, Many) and other.prefix == prefix)
    width = len(many.key_via.key if many.key_via else many.key)
    return _is_row(value, width + len(many.values)) and name == field_name(prefix, value[:width])


def _is_whole(other: Whole, value: Json) -> bool:
    return value is None or (isinstance(value, list) and len(value) > 0 and all(_is_row(row, len(other.values)) for row in value))


def _is_row(value: Json, width: int) -> bool:
    return isinstance(value, list) and len(value) == width and all(map(_is_scalar, value))


def _is_scalar(value: Json) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value is None or isinstance(value, str | float)


def _is_json(text: Json) -> bool:
    try:
        json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
