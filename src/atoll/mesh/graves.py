"""When deleted records end: what a site still has to say of them, and for how long. Pure; `Document.tidy` acts on it.

A deletion travels as an entry `present: false` of whoever deleted the record. Then, step by step, everything else about it goes:

1. The site that deletes drops all other fields of its own entry at once.
2. Each other site that has an entry about the record reduces it to a tombstone as well, `BURY_AFTER_MS` after the deletion. The delay is
   for a deletion by a site that was broken into: if it is revoked meanwhile, the deletion is void, and nothing was lost.
3. A site leaves a tombstone out of its stream when that is safe: every member has had it (`acknowledged`), it is older than
   `END_AFTER_MS`, and each other site's entry about the record is a tombstone as well, or makes the record anew, later.

Step 3 can't bring a record back. Every member had the tombstone; whatever a member wrote about the record before is a tombstone too; what
it writes later carries a later stamp, and is a new record by the rules. A member that is away holds step 3 up; a revoked one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from atoll.mesh.clock import COUNTER_BITS
from atoll.mesh.parts import Head
from atoll.mesh.record import PRESENT, Fields, Record, Refused, Stamped, entry_name, is_tombstone, settle

STREAM = "stream"
"""The kind of the one record that a stream has about itself. Its key is the author."""

ANCESTORS = "ancestors"
"""The field that names what the stream continues: (generation, writes) of earlier ones. An entry of those that is not in this stream was
left out on purpose; otherwise the author has lost its memory."""

MAX_ANCESTORS = 512

BURY_AFTER_MS = 3600 * 1000
END_AFTER_MS = 24 * 3600 * 1000

MIN_WASTE = 256 * 1024
"""Bytes of weight for which it is not worth while to begin a new generation, which every member has to fetch."""

_MOST = 500
"""So many entries are reduced in one write."""


def is_worth_while(waste: int, weight: int) -> bool:
    """Whether to begin a new generation: what it leaves out outweighs what it keeps, so that all of them together cost as much as writing.

    Args:
        waste: bytes of weight that it leaves out.
        weight: of the stream.
    """
    return waste > max(MIN_WASTE, weight - waste)


def check_stream(author: str, key: str, fields: Mapping[str, object]) -> None:
    """The document's rule for records of kind `STREAM`.

    Raises:
        Refused: the record is another author's, or no list of ancestors.
    """
    if author != key or not fields.keys() <= {ANCESTORS}:
        raise Refused(f"{author} writes what a stream does not say of itself")
    pairs = fields.get(ANCESTORS, [])
    if not isinstance(pairs, list) or len(pairs) > MAX_ANCESTORS or not all(_is_pair(pair) for pair in pairs):
        raise Refused(f"the ancestors of {author}'s stream are malformed")


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and [type(number) for number in pair] == [int, int] and all(0 <= number < 2**63 for number in pair)


def ancestors(author: str, entries: Mapping[str, Fields]) -> list[tuple[int, int]]:
    """The (generation, writes) of the streams that an author's entries continue, the oldest first."""
    field = entries.get(entry_name(STREAM, author), {}).get(ANCESTORS)
    return [(pair[0], pair[1]) for pair in field.value] if field else []


def merged(author: str, one: Mapping[str, Fields], other: Mapping[str, Fields], stamp: int) -> Fields:
    """The entry that names what two streams of one author continue."""
    pairs = sorted({*ancestors(author, one), *ancestors(author, other)})[-MAX_ANCESTORS:]
    return {ANCESTORS: Stamped(stamp, [list(pair) for pair in pairs])}


def continues(author: str, entries: Mapping[str, Fields], old: Head | None, generation: int | None = None) -> bool:
    """Whether entries name an old head of their author among those that they continue: what they lack of it was left out on purpose.

    Args:
        author: of both.
        entries: of the newer stream.
        old: the older one.
        generation: of the newer stream, if that matters: there is nothing left out within one generation.
    """
    if old is None or old.generation == generation:
        return False
    return any(old.generation == each and old.writes <= writes for each, writes in ancestors(author, entries))


def later(fields: Fields, stamp: int) -> Fields:
    """The fields of an entry that were written after a stamp."""
    return {field: item for field, item in fields.items() if item.stamp > stamp}


class Graves:
    """The entries of this site whose records are deleted."""

    def __init__(self, author: str) -> None:
        """Nothing is known.

        Args:
            author: this site's name.
        """
        self._author = author
        self._candidates: set[str] = set()
        self._tombstones: dict[str, int] = {}

    def note(self, names: Iterable[str], own: Mapping[str, Fields], stamp: int) -> None:
        """Look at entries again: they, or their records, were changed.

        Args:
            names: of the entries.
            own: all entries of this site.
            stamp: by which its stream has them.
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

    def to_bury(self, own: Mapping[str, Fields], record_of: Callable[[str], Record | None], now: int) -> dict[str, Fields]:
        """Reduce entries of records that were deleted.

        Args:
            own: all entries of this site.
            record_of: the record of an entry.
            now: a stamp.

        Returns:
            What the entries are to be, not more than fit one write.
        """
        found: dict[str, Fields] = {}
        before = now - (BURY_AFTER_MS << COUNTER_BITS)
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

    def ended(self, own: Mapping[str, Fields], others: Callable[[str], Iterable[Fields]], acknowledged: int, now: int) -> Collection[str]:
        """The names of tombstones that this site may leave out.

        Args:
            own: all entries of this site.
            others: the entries of all other sites under a name.
            acknowledged: every member has had this site's entries up to this stamp.
            now: a stamp.
        """
        before = now - (END_AFTER_MS << COUNTER_BITS)
        return {
            name
            for name, stamp in self._tombstones.items()
            if stamp <= acknowledged
            and (deleted := own[name][PRESENT].stamp) < before
            and all(is_tombstone(each) or (PRESENT in each and each[PRESENT].stamp > deleted) for each in others(name))
        }

    def might_end(self) -> int:
        """How many tombstones there are."""
        return len(self._tombstones)
