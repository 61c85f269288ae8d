"""The document's rules for identity: the entries that a site may write.

A member of the cloud may administer identity, so its entries are accepted, but only if the tables can hold them, and within `bounds`.
Fields that this version does not know are refused: they would be stored everywhere and be of no use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from atoll.identity import bounds
from atoll.identity.tables import EXTRA, KINDS, NO_DOMAIN, ReplicatedTable, RowList, RowPerField, decode, encode, field_name
from atoll.mesh.entry import CREATED, PRESENT, Json
from atoll.mesh.record import Rule
from atoll.mesh.refusals import Refused

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?")
_DATES = frozenset({"issued_before", "revoked_at"})
_DATES_OR_NONE = frozenset({"expires_at"})
"""Key columns that hold dates. Keystone reads all rows that may concern a token: a malformed date would stop it."""


def date_ms(text: str | None) -> int | None:
    """Return the milliseconds since 1970 of a date in the format of Keystone's tables; `None` if the text is not a date."""
    if text is None or not _DATE.fullmatch(text):
        return None
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None


def rules() -> dict[str, Rule]:
    """Return the rules by kind."""
    return {kind: _rule(table) for kind, table in KINDS.items()}


def _rule(table: ReplicatedTable) -> Rule:
    def check(author: str, key: str, fields: Mapping[str, Json]) -> None:
        _check_key(table, author, key)
        for name, value in fields.items():
            if not _fits(table, name, value):
                raise Refused(f"{author} gives {name!r:.100} of {table.kind} {key!r:.100} an invalid value")
        if (size := bounds.record_bytes(fields)) > bounds.max_bytes(table.kind):
            raise Refused(f"{author} writes {size} bytes about {table.kind} {key!r:.100}: {bounds.max_bytes(table.kind)} are allowed")

    return check


def _check_key(table: ReplicatedTable, author: str, key: str) -> None:
    values = decode(key)
    if len(values) != len(table.key) or encode(values) != key:
        raise Refused(f"{author} writes of a {table.kind} with the malformed key {key!r:.100}")
    if table.kind == "project" and values[0] == NO_DOMAIN:
        raise Refused(f"{author} writes about the project {NO_DOMAIN}, a row that each site has from Keystone's schema")
    for column, value in zip(table.key, values, strict=True):
        if not _fits_key(column, value):
            raise Refused(f"{author} writes of a {table.kind} with the malformed key {key!r:.100}")


def _fits_key(column: str, value: str | None) -> bool:
    if column == "inherited":
        return value in {"0", "1"}
    if column in _DATES or (column in _DATES_OR_NONE and value is not None):
        return date_ms(value) is not None
    return True


def _fits(table: ReplicatedTable, name: str, value: Json) -> bool:
    if name == PRESENT:
        return isinstance(value, bool)
    if name == CREATED:
        return type(value) is int and value >= 0
    if name in table.plain:
        whole = next((other for other in table.others if isinstance(other, RowList) and other.field == name), None)
        return _is_row_list(whole, value) if whole else _is_scalar(value) and bounds.text_fits(name, value)
    prefix, point, _ = name.partition(".")
    if not point or prefix not in table.prefixes:
        return False
    return value is None or (_is_extra(name, value) if prefix == EXTRA else _is_field_of_row(table, prefix, name, value))


def _is_extra(name: str, value: Json) -> bool:
    return _is_row(value, 2) and name == field_name(EXTRA, value[:1]) and _is_json(value[1]) and len(value[1]) <= bounds.MAX_LONG


def _is_field_of_row(table: ReplicatedTable, prefix: str, name: str, value: Json) -> bool:
    many = next(other for other in table.others if isinstance(other, RowPerField) and other.prefix == prefix)
    key = many.key_via.key if many.key_via else many.key
    columns = (*key, *many.values)
    return _is_row(value, len(columns)) and name == field_name(prefix, value[: len(key)]) and bounds.row_fits(columns, value)


def _is_row_list(other: RowList, value: Json) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or not 0 < len(value) <= bounds.MAX_ROWS:
        return False
    return all(_is_row(row, len(other.values)) and bounds.row_fits(other.values, row) for row in value)


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
