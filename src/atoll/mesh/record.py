"""What the replicated document holds: records, folded from what each site has written about them.

An *entry* is what one site (its author) has written about one record: of each field a stamp and a value. A *record* is the fold over
all authors' entries: of each field the value of the greatest (stamp, author). A fold of maxima does not depend on the order,
the repetition or the grouping of what arrives (Shapiro, Preguiça, Baquero, Zawirski: "Conflict-free Replicated Data Types", SSS 2011).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

Json = Any
"""What JSON can say: None, bool, int, float, str, list, dict."""

PRESENT = "present"
CREATED = "created"

MAX_ENTRY_BYTES = 256 * 1024
"""The bound of one entry's text, of any kind. A kind may have a smaller one of its own (`Rule`)."""
MAX_FIELDS = 256
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_FIELD = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


class Refused(Exception):  # noqa: N818 - what happened to an update, not an error of ours
    """An update, or a part of one, that is not taken in. It changed nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownAuthor(Refused):
    """The author's certificate is not known yet: what admits it may be in a part that has not come."""

    def __init__(self, author: str) -> None:
        super().__init__(f"{author} is not a known member")
        self.author = author


class Behind(Refused):
    """Something that came before is lacking here.

    Attributes:
        author: whose stream it is.
        wholly: what is here of that stream is of no use: all of it is needed.
    """

    def __init__(self, author: str, *, wholly: bool) -> None:
        super().__init__(f"what comes before this part of {author}'s entries is not here")
        self.author = author
        self.wholly = wholly


class Contradiction(Refused):
    """An author takes back what it said: it lost its memory, and must be shown what is known of it (or it lies)."""

    def __init__(self, author: str, name: str) -> None:
        super().__init__(f"{author} has gone back behind what it said earlier about {name!r:.100}")
        self.author = author


class Full(Refused):
    """A stream would weigh more than any reader takes. What is deleted, and what becomes smaller, is always taken."""

    def __init__(self, author: str) -> None:
        super().__init__(f"the stream of {author} is full")
        self.author = author


class Stamped(NamedTuple):
    """A value and when it was written (`HybridClock`)."""

    stamp: int
    value: Json


Fields = dict[str, Stamped]
"""An entry."""

Rule = Callable[[str, str, Mapping[str, Json]], None]
"""What an entry of a kind must satisfy: (author, key, fields), raising Refused. Of nothing else, or sites would not agree."""


@dataclass(frozen=True)
class Change:
    """Fields of a record to be written; a deletion is `{"present": False}`.

    Attributes:
        kind: lower case letters, digits, `_`, `.`, `-`.
        key: which record of the kind; up to 512 characters.
        fields: only those that change.
        stamp: None for now. A stamp of the past says that the values are so old: what is newer stays.
    """

    kind: str
    key: str
    fields: Mapping[str, Json]
    stamp: int | None = None


@dataclass(frozen=True)
class Record:
    """A record as this site knows it, all authors considered.

    Attributes:
        kind: its kind.
        key: which one of its kind.
        fields: the value of each field.
        stamps: when each was written.
        authors: the site that wrote each.
    """

    kind: str
    key: str
    fields: dict[str, Json]
    stamps: dict[str, int]
    authors: dict[str, str]

    @property
    def present(self) -> bool:
        """Whether it is there: not deleted."""
        return self.fields.get(PRESENT) is True

    @property
    def created(self) -> int:
        """The stamp of its creation; 0 if none is known."""
        created = self.fields.get(CREATED)
        return created if isinstance(created, int) else 0

    @property
    def version(self) -> tuple[int, str]:
        """Of its latest change: (stamp, author)."""
        return max((stamp, self.authors[field]) for field, stamp in self.stamps.items())


def fold(kind: str, key: str, entries: Iterable[tuple[str, Fields]], ignored: Mapping[str, int]) -> Record | None:
    """The record that entries make.

    Args:
        kind: its kind.
        key: its key.
        entries: (author, entry), in any order.
        ignored: authors of whom nothing later than a stamp counts.

    Returns:
        None if nothing is known of it.
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

    Of a deleted record only the tombstone stays: `present` and what was written later than it. Of a record that was created again,
    the fields of its earlier life go.
    """
    return {field: item for field, item in fields.items() if field == PRESENT or not _is_void(item.stamp, fields)}


def is_tombstone(fields: Mapping[str, Stamped]) -> bool:
    """Whether an entry says nothing but that its record is deleted."""
    return len(fields) == 1 and PRESENT in fields and fields[PRESENT].value is False


def covers(new: Mapping[str, Stamped], old: Mapping[str, Stamped]) -> bool:
    """Whether an author who wrote `old` may go on to `new`: each field is the same, newer, or voided (`settle`)."""
    return all(
        new[field] == item or new[field].stamp > item.stamp if field in new else _is_void(item.stamp, new) for field, item in old.items()
    )


def unite(one: Mapping[str, Stamped], other: Mapping[str, Stamped]) -> Fields:
    """Merge two entries of one author about one record; of one field the later value counts, of equally old ones that of `other`."""
    return settle({**one, **{field: item for field, item in other.items() if field not in one or item.stamp >= one[field].stamp}})


def _is_void(stamp: int, fields: Mapping[str, Stamped]) -> bool:
    present, created = fields.get(PRESENT), fields.get(CREATED)
    if present is None:
        return False
    if present.value is False:
        return stamp <= present.stamp
    return created is not None and stamp < min(created.stamp, present.stamp)


def entry_name(kind: str, key: str) -> str:
    """The name of the entries about a record.

    Raises:
        ValueError: no kind or no key may be like that.
    """
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} can't be a kind of record")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} can't be the key of a record")
    return f"{kind}/{key}"


def split_name(name: str) -> tuple[str, str]:
    """The kind and the key that a name is of."""
    kind, _, key = name.partition("/")
    return kind, key


def write_entry(fields: Mapping[str, Stamped]) -> str:
    """An entry as text; equal entries give equal texts."""
    return orjson.dumps({name: list(field) for name, field in fields.items()}, option=orjson.OPT_SORT_KEYS).decode()


def read_entry(name: str, text: object, latest: int) -> Fields:
    """An entry from its text, which may be hostile.

    Args:
        name: of the entry.
        text: what was found under it.
        latest: no stamp may be greater.

    Raises:
        Refused: it is no entry.
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
