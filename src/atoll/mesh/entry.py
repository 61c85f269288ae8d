"""Entries of the replicated document: the stamped values of one author about one record, their text, and how they replace each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from atoll.mesh.refusals import Refused

Json = Any
"""A value of JSON: None, bool, int, float, str, list, dict."""

PRESENT = "present"
CREATED = "created"

MAX_ENTRY_BYTES = 256 * 1024
"""The greatest size of an entry's text in bytes, for any kind. A kind may have a smaller bound (`Rule`)."""
MAX_FIELDS = 256
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_FIELD = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


class Stamped(NamedTuple):
    """A value and the stamp of its writing (`HybridClock`)."""

    stamp: int
    value: Json


Fields = dict[str, Stamped]
"""The fields of an entry by name."""


def settle(fields: Mapping[str, Stamped]) -> Fields:
    """Drop the fields of an entry that a deletion or a re-creation in the same entry has voided.

    Of a deleted record only the tombstone stays: `present`, and fields written later. Of a record that was created again, the fields of its
    earlier life are dropped.
    """
    return {field: item for field, item in fields.items() if field == PRESENT or not _is_void(item.stamp, fields)}


def is_tombstone(fields: Mapping[str, Stamped]) -> bool:
    """Return whether an entry contains only the deletion of its record."""
    return len(fields) == 1 and PRESENT in fields and fields[PRESENT].value is False


def covers(new: Mapping[str, Stamped], old: Mapping[str, Stamped]) -> bool:
    """Return whether an author may replace `old` by `new`: each field is the same, newer, or voided (`settle`)."""
    return all(
        new[field] == item or new[field].stamp > item.stamp if field in new else _is_void(item.stamp, new) for field, item in old.items()
    )


def unite(one: Mapping[str, Stamped], other: Mapping[str, Stamped]) -> Fields:
    """Merge two entries of one author about one record: each field takes its later value; if both are equally old, the value of `other`."""
    return settle({**one, **{field: item for field, item in other.items() if field not in one or item.stamp >= one[field].stamp}})


def _is_void(stamp: int, fields: Mapping[str, Stamped]) -> bool:
    present, created = fields.get(PRESENT), fields.get(CREATED)
    if present is None:
        return False
    if present.value is False:
        return stamp <= present.stamp
    return created is not None and stamp < min(created.stamp, present.stamp)


def entry_name(kind: str, key: str) -> str:
    """Return the name of the entries about a record.

    Raises:
        ValueError: the kind or the key is invalid.
    """
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is not a valid kind of record")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a valid key of a record")
    return f"{kind}/{key}"


def split_name(name: str) -> tuple[str, str]:
    """Return the kind and the key in a name."""
    kind, _, key = name.partition("/")
    return kind, key


def write_entry(fields: Mapping[str, Stamped]) -> str:
    """Return an entry as text; equal entries have equal texts."""
    return orjson.dumps({name: list(field) for name, field in fields.items()}, option=orjson.OPT_SORT_KEYS).decode()


def read_entry(name: str, text: object, latest: int) -> Fields:
    """Return an entry from its text, which may be hostile.

    Args:
        name: the name of the entry.
        text: the text of the entry.
        latest: the greatest stamp allowed.

    Raises:
        Refused: the text is not an entry.
    """
    if not isinstance(text, str) or len(text.encode()) > MAX_ENTRY_BYTES:
        raise Refused(f"the entry {name!r:.100} is not a text of at most {MAX_ENTRY_BYTES} bytes")
    try:
        entry_name(*split_name(name))
        content = orjson.loads(text)
    except ValueError as error:
        raise Refused(f"the entry {name!r:.100} is malformed: {error}") from error
    if not isinstance(content, dict) or not 0 < len(content) <= MAX_FIELDS:
        raise Refused(f"the entry {name!r:.100} has no fields, or more than {MAX_FIELDS}")
    return {field: _read_field(name, field, item, latest) for field, item in content.items()}


def _read_field(name: str, field: str, item: object, latest: int) -> Stamped:
    if not _FIELD.fullmatch(field) or not isinstance(item, list) or len(item) != 2:
        raise Refused(f"field {field!r:.100} of the entry {name!r:.100} is malformed")
    stamp, value = item
    if type(stamp) is not int or not 0 <= stamp <= latest:
        raise Refused(f"field {field!r:.100} of the entry {name!r:.100} has a stamp that its author did not sign")
    return Stamped(stamp, value)
