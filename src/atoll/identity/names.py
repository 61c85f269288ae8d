"""Conflicts of names that two sites gave while they were separated. Every site resolves them alike, from the records alone.

Of the records of one kind that claim one name in one scope, the one created first keeps it: the lowest (stamp of its creation, id). Each
other is called `NAME-` and the first eight digits of its id; more digits if another record claims that name too. The document keeps the
name that each record's owner gave it: if the first record is deleted or renamed, the next one gets the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

_SHORT = 8
"""The number of digits of an id that a name gets at first: enough to tell two records apart, and short."""


@dataclass(frozen=True, order=True)
class NameClaim:
    """A record that claims a name.

    Attributes:
        created: the stamp of the record's creation.
        id: the record's id.
        name: the claimed name.
    """

    created: int
    id: str
    name: str


class NameScope:
    """The names of one scope, such as the users of a domain."""

    def __init__(self, length: int) -> None:
        """Create a scope in which no name is taken yet.

        Args:
            length: the greatest length of a name.
        """
        self._length = length
        self._claims: dict[str, NameClaim] = {}
        self._by_name: dict[str, set[NameClaim]] = {}
        self._contested: set[str] = set()
        self._given: dict[str, str] = {}

    def claim(self, claim: NameClaim) -> None:
        """Add the claim of a new or renamed record."""
        if self._claims.get(claim.id) == claim:
            return
        self.release(claim.id)
        self._claims[claim.id] = claim
        claims = self._by_name.setdefault(claim.name, set())
        claims.add(claim)
        if len(claims) > 1:
            self._contested.add(claim.name)

    def release(self, record_id: str) -> None:
        """Remove the claim of a record."""
        claim = self._claims.pop(record_id, None)
        if claim is None:
            return
        claims = self._by_name[claim.name]
        claims.remove(claim)
        if len(claims) < 2:
            self._contested.discard(claim.name)
        if not claims:
            del self._by_name[claim.name]

    def settle(self) -> set[str]:
        """Resolve the conflicts of names.

        Returns:
            The ids of the records whose name has changed.
        """
        before, self._given = self._given, {}
        taken: set[str] = set()
        for name in sorted(self._contested):
            for loser in sorted(self._by_name[name])[1:]:
                self._given[loser.id] = self._free(loser, taken)
                taken.add(self._given[loser.id])
        return {each for each in before.keys() | self._given.keys() if before.get(each) != self._given.get(each)}

    def _free(self, loser: NameClaim, taken: set[str]) -> str:
        for digits in count(_SHORT):
            # Once all digits of the id are used up, a number distinguishes the name.
            suffix = "-" + (loser.id[:digits] if digits <= max(_SHORT, len(loser.id)) else f"{loser.id[:_SHORT]}-{digits}")
            name = loser.name[: max(0, self._length - len(suffix))] + suffix
            if name not in taken and name not in self._by_name:
                return name
        raise AssertionError

    def name(self, record_id: str) -> str:
        """Return the name of a record."""
        return self._given.get(record_id) or self._claims[record_id].name

    def renamed(self) -> list[tuple[NameClaim, NameClaim, str]]:
        """Return the renamed records as (the claim that keeps the name, the renamed record's claim, its new name)."""
        return [(min(self._by_name[(claim := self._claims[each]).name]), claim, name) for each, name in sorted(self._given.items())]
