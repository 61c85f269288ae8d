"""Records of the replicated document, folded from the entries of all sites.

An *entry* holds the values that one site (its author) has written about one record: for each field, a value and a stamp. A *record* is the
fold over all authors' entries: for each field, the value with the greatest (stamp, author). A fold of maxima does not depend on the order,
the repetition or the grouping of its inputs (Shapiro, Preguiça, Baquero, Zawirski: "Conflict-free Replicated Data Types", SSS 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from atoll.mesh.entry import CREATED, PRESENT, Fields, Json

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
