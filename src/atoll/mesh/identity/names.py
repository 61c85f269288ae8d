"""Who keeps a name that two sites gave away while they were apart; pure, and computed alike at every site.

Of the records of one kind that claim one name in one scope, the one created first keeps it: the lowest (stamp of its creation, id).
Each other is called `NAME-` and the first eight digits of its id; more of them if somebody claims that name too. The record itself
keeps the name that its owner gave it: when whoever was first is deleted or called otherwise, the next one has the name as it was meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

_SHORT = 8
"""How much of an id a name gets at first. Eight digits are enough for people to tell, and leave names their length."""


@dataclass(frozen=True, order=True)
class Claim:
    """A record that wants a name.

    Attributes:
        created: the stamp of its creation.
        id: its id.
        name: the wanted name.
    """

    created: int
    id: str
    name: str


class Scope:
    """The names of one scope: of the users of a domain, say."""

    def __init__(self, length: int) -> None:
        """Nobody is there.

        Args:
            length: how long a name may be.
        """
        self._length = length
        self._claims: dict[str, Claim] = {}
        self._by_name: dict[str, set[Claim]] = {}
        self._contested: set[str] = set()
        self._given: dict[str, str] = {}

    def claim(self, claim: Claim) -> None:
        """A record is there, or wants another name."""
        if self._claims.get(claim.id) == claim:
            return
        self.release(claim.id)
        self._claims[claim.id] = claim
        claims = self._by_name.setdefault(claim.name, set())
        claims.add(claim)
        if len(claims) > 1:
            self._contested.add(claim.name)

    def release(self, id: str) -> None:  # noqa: A002
        """A record is gone."""
        claim = self._claims.pop(id, None)
        if claim is None:
            return
        claims = self._by_name[claim.name]
        claims.remove(claim)
        if len(claims) < 2:
            self._contested.discard(claim.name)
        if not claims:
            del self._by_name[claim.name]

    def settle(self) -> set[str]:
        """Decide anew.

        Returns:
            The ids of those that are no longer called what they claim, or are again, or are called something else instead.
        """
        before, self._given = self._given, {}
        taken: set[str] = set()
        for name in sorted(self._contested):
            for loser in sorted(self._by_name[name])[1:]:
                self._given[loser.id] = self._free(loser, taken)
                taken.add(self._given[loser.id])
        return {id for id in before.keys() | self._given.keys() if before.get(id) != self._given.get(id)}  # noqa: A001

    def _free(self, loser: Claim, taken: set[str]) -> str:
        for digits in count(_SHORT):
            # Beyond the id's own digits a number makes the difference.
            suffix = "-" + (loser.id[:digits] if digits <= max(_SHORT, len(loser.id)) else f"{loser.id[:_SHORT]}-{digits}")
            name = loser.name[: max(0, self._length - len(suffix))] + suffix
            if name not in taken and name not in self._by_name:
                return name
        raise AssertionError

    def name(self, id: str) -> str:  # noqa: A002
        """What a record is called.

        Raises:
            KeyError: it is not there.
        """
        return self._given.get(id) or self._claims[id].name

    def renamed(self) -> list[tuple[Claim, Claim, str]]:
        """All who lost their name: (who keeps it, who lost it, the new name)."""
        return [(min(self._by_name[(claim := self._claims[id]).name]), claim, name) for id, name in sorted(self._given.items())]  # noqa: A001
