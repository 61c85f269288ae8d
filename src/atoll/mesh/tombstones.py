"""Tombstones: the entries of deleted records, and the time for which a site keeps them. This module decides; `Document.tidy` acts.

A deletion travels as an entry `present: false` of the site that deleted the record. Everything else about the record is then dropped step
by step:

1. The site that deletes the record drops all other fields of its own entry immediately.
2. Each other site that has an entry about the record reduces it to a tombstone as well, `REDUCE_AFTER_MS` after the deletion. The delay
protects against a deletion by a compromised site: if that site is revoked meanwhile, the deletion is void, and nothing was lost.
3. A site drops a tombstone from its stream when that is safe: every member has received it (`acknowledged`), it is older than
   `DROP_AFTER_MS`, and each other site's entry about the record is a tombstone too, or creates the record anew later.

Step 3 can't bring a record back. Every member has received the tombstone. An entry that a member wrote about the record before is a
tombstone too; an entry that it writes later has a later stamp, and makes a new record by the rules. An unreachable member delays step 3; a
revoked one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from atoll.mesh.clock import COUNTER_BITS
from atoll.mesh.entry import PRESENT, Fields, Stamped, entry_name, is_tombstone, settle
from atoll.mesh.parts import Head
from atoll.mesh.record import Record
from atoll.mesh.refusals import Refused

STREAM = "stream"
"""The kind of the one record that a stream has about itself. Its key is the author."""

ANCESTORS = "ancestors"
"""The field that names the streams that this one continues, as (generation, writes). If this stream lacks
an entry of one of them, the author dropped the entry on purpose; of any other stream, the author has lost it."""

MAX_ANCESTORS = 512

REDUCE_AFTER_MS = 3600 * 1000
DROP_AFTER_MS = 24 * 3600 * 1000

MIN_WASTE = 256 * 1024
"""The weight in bytes below which a new generation, which every member has to fetch, is not begun."""

_MOST = 500
"""The greatest number of entries that are reduced in one write."""


def is_worthwhile(waste: int, weight: int) -> bool:
    """Return whether to begin a new generation: it must leave out more than it keeps.

    By this rule, all generations together cost no more than the writes.

    Args:
        waste: the weight in bytes that the new generation would leave out.
        weight: the weight of the present stream in bytes.
    """
    return waste > max(MIN_WASTE, weight - waste)


def check_stream(author: str, key: str, fields: Mapping[str, object]) -> None:
    """Check a record of kind `STREAM`; a `Rule` of the document.

    Raises:
        Refused: the record is another author's, or no list of ancestors.
    """
    if author != key or not fields.keys() <= {ANCESTORS}:
        raise Refused(f"{author} writes an invalid record about a stream")
    pairs = fields.get(ANCESTORS, [])
    if not isinstance(pairs, list) or len(pairs) > MAX_ANCESTORS or not all(_is_pair(pair) for pair in pairs):
        raise Refused(f"the ancestors of {author}'s stream are malformed")


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and [type(number) for number in pair] == [int, int] and all(0 <= number < 2**63 for number in pair)


def ancestors(author: str, entries: Mapping[str, Fields]) -> list[tuple[int, int]]:
    """Return the (generation, writes) of the streams that an author's entries continue, the oldest first."""
    field = entries.get(entry_name(STREAM, author), {}).get(ANCESTORS)
    return [(pair[0], pair[1]) for pair in field.value] if field else []


def merged_ancestors(author: str, one: Mapping[str, Fields], other: Mapping[str, Fields], stamp: int) -> Fields:
    """Return the entry that names the streams continued by two streams of one author."""
    pairs = sorted({*ancestors(author, one), *ancestors(author, other)})[-MAX_ANCESTORS:]
    return {ANCESTORS: Stamped(stamp, [list(pair) for pair in pairs])}


def continues(author: str, entries: Mapping[str, Fields], old: Head | None, generation: int | None = None) -> bool:
    """Return whether a newer stream of an author continues an old head, so that entries which it lacks were dropped on purpose.

    Args:
        author: the author of both.
        entries: the entries of the newer stream.
        old: the head of the older one.
        generation: the generation of the newer stream, if known: nothing is left out within one generation.
    """
    if old is None or old.generation == generation:
        return False
    return any(old.generation == each and old.writes <= writes for each, writes in ancestors(author, entries))


def fields_after(fields: Fields, stamp: int) -> Fields:
    """Return the fields of an entry that were written after a stamp."""
    return {field: item for field, item in fields.items() if item.stamp > stamp}


class Tombstones:
    """This site's entries about deleted records."""

    def __init__(self, author: str) -> None:
        """Start without any entry.

        Args:
            author: this site's name.
        """
        self._author = author
        self._candidates: set[str] = set()
        self._tombstones: dict[str, int] = {}

    def note(self, names: Iterable[str], own: Mapping[str, Fields], stamp: int) -> None:
        """Note entries that have changed, or whose records have changed, for the next `to_reduce` and `droppable`.

        Args:
            names: the names of the entries.
            own: all entries of this site.
            stamp: the stamp at which this site's stream has these entries.
        """
        for name in names:
            if name not in own:
                self._candidates.discard(name)
                self._tombstones.pop(name, None)
            elif is_tombstone(own[name]):
                self._candidates.discard(name)
                self._tombstones[name] = stamp
            else:
                self._candidates.add(name)
                self._tombstones.pop(name, None)

    def to_reduce(self, own: Mapping[str, Fields], record_of: Callable[[str], Record | None], now: int) -> dict[str, Fields]:
        """Return reduced entries for records that were deleted.

        Args:
            own: all entries of this site.
            record_of: returns the record of an entry.
            now: the present stamp.

        Returns:
            The reduced entries by name, at most as many as fit one write.
        """
        found: dict[str, Fields] = {}
        before = now - (REDUCE_AFTER_MS << COUNTER_BITS)
        for name in list(self._candidates):
            record = record_of(name)
            if record is None or record.fields.get(PRESENT) is not False:
                self._candidates.discard(name)
                continue
            stamp = record.stamps[PRESENT]
            if stamp >= before and record.authors[PRESENT] != self._author:
                continue
            buried = settle({**own[name], PRESENT: Stamped(stamp, False)})
            if buried == own[name]:
                self._candidates.discard(name)
            else:
                found[name] = buried
            if len(found) == _MOST:
                break
        return found

    def droppable(
        self, own: Mapping[str, Fields], others: Callable[[str], Iterable[Fields]], acknowledged: int, now: int
    ) -> Collection[str]:
        """Return the names of tombstones that this site may drop.

        Args:
            own: all entries of this site.
            others: returns the entries of all other sites under a name.
            acknowledged: the stamp up to which every member has this site's entries.
            now: the present stamp.
        """
        before = now - (DROP_AFTER_MS << COUNTER_BITS)
        return {
            name
            for name, stamp in self._tombstones.items()
            if stamp <= acknowledged
            and (deleted := own[name][PRESENT].stamp) < before
            and all(is_tombstone(each) or (PRESENT in each and each[PRESENT].stamp > deleted) for each in others(name))
        }

    def count(self) -> int:
        """Return the number of tombstones."""
        return len(self._tombstones)
