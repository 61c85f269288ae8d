"""Records of the replicated document, folded from the entries of all sites.

An *entry* holds the values that one site (its author) has written about one record: for each field, a value and a stamp. A *record* is the
fold over all authors' entries: for each field, the value with the greatest (stamp, author). A fold of maxima does not depend on the order,
the repetition or the grouping of its inputs (Shapiro, Preguiça, Baquero, Zawirski: "Conflict-free Replicated Data Types", SSS 2011).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

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


class Refused(Exception):
    """The refusal of an update, or of a part of an update, which has changed nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownAuthor(Refused):
    """The author's certificate is not known yet: its admission may be in a part that has not arrived."""

    def __init__(self, author: str) -> None:
        super().__init__(f"{author} is not a known member")
        self.author = author


class Behind(Refused):
    """A part of a stream that can't be applied, because this site lacks earlier entries of the stream.

    Attributes:
        author: the author of the stream.
        wholly: True if this site cannot use its copy of the stream, and needs all of it.
    """

    def __init__(self, author: str, *, wholly: bool) -> None:
        super().__init__(f"the entries of {author} before this part are missing here")
        self.author = author
        self.wholly = wholly


class Contradiction(Refused):
    """An author has reverted an entry: it has lost entries and needs them back, or it is hostile."""

    def __init__(self, author: str, name: str) -> None:
        super().__init__(f"{author} has reverted its entry about {name!r:.100}")
        self.author = author


class Full(Refused):
    """A stream would exceed the weight that readers accept. Deletions, and entries that become smaller, are always accepted."""

    def __init__(self, author: str) -> None:
        super().__init__(f"the stream of {author} is full")
        self.author = author


class Stamped(NamedTuple):
    """A value and the stamp of its writing (`HybridClock`)."""

    stamp: int
    value: Json


Fields = dict[str, Stamped]
"""The fields of an entry by name."""

Rule = Callable[[str, str, Mapping[str, Json]], None]
"""A rule for the entries of a kind: called with (author, key, fields), it raises `Refused` for an invalid entry. It must depend only on its
arguments; otherwise sites would not agree."""


@dataclass(frozen=True)
class Change:
    """Fields of a record to write; a deletion is `{"present": False}`.

    Attributes:
        kind: the kind of the record: lower-case letters, digits, `_`, `.`, `-`.
        key: the key of the record; up to 512 characters.
        fields: the fields that change.
        stamp: the stamp of the values; `None` means now. With an earlier stamp, newer values of other entries stay.
    """

    kind: str
    key: str
    fields: Mapping[str, Json]
    stamp: int | None = None


@dataclass(frozen=True)
class Record:
    """A record, folded over all authors.

    Attributes:
        kind: the kind of the record.
        key: the key, unique among the records of the kind.
        fields: the value of each field.
        stamps: the stamp of each field.
        authors: the site that wrote each field.
    """

    kind: str
    key: str
    fields: dict[str, Json]
    stamps: dict[str, int]
    authors: dict[str, str]

    @property
    def present(self) -> bool:
        """True if the record exists and is not deleted."""
        return self.fields.get(PRESENT) is True

    @property
    def created(self) -> int:
        """The stamp of its creation; 0 if none is known."""
        created = self.fields.get(CREATED)
        return created if isinstance(created, int) else 0

    @property
    def version(self) -> tuple[int, str]:
        """The (stamp, author) of its latest change."""
        return max((stamp, self.authors[field]) for field, stamp in self.stamps.items())


def fold(kind: str, key: str, entries: Iterable[tuple[str, Fields]], ignored: Mapping[str, int]) -> Record | None:
    """Merge the entries of a record: each field has the value with the newest stamp.

    Args:
        kind: the kind of the record.
        key: the key of the record.
        entries: (author, entry), in any order.
        ignored: by author, the stamp after which entries are ignored.

    Returns:
        The record; `None` if all entries are ignored.
    """
    best: dict[str, tuple[int, str]] = {}
    values: dict[str, Json] = {}
    for author, fields in entries:
        until = ignored.get(author)
        for field, (stamp, value) in fields.items():
            if (until is None or stamp <= until) and (stamp, author) > best.get(field, (-1, "")):
                best[field] = (stamp, author)
                values[field] = value
    if not best:
        return None
    stamps = {field: stamp for field, (stamp, _) in best.items()}
    return Record(kind, key, values, stamps, {field: author for field, (_, author) in best.items()})


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
        raise ValueError(f"{kind!r} is no valid kind of record")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no valid key of a record")
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
        Refused: the text is no entry.
    """
    if not isinstance(text, str) or len(text.encode()) > MAX_ENTRY_BYTES:
        raise Refused(f"the entry {name!r:.100} is no text of at most {MAX_ENTRY_BYTES} bytes")
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
