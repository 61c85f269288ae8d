"""The neighbours of a member in a large cloud: the few members to which it keeps links, and which it probes.

A link costs memory and handshakes. Up to `FULL` members, each has a link to every other. In a larger cloud, a member has only the links of
an expander graph that all members compute alike from the members' names: the union of `RINGS` rings. Each ring has all members in the order
of a hash of their names (Law, Siu: "Distributed Construction of Random Expander Networks", INFOCOM 2003, on random Hamiltonian cycles).
Being neighbours is mutual, any two of 1,000 members are at most six links apart, and a member that comes or goes changes only the links of
the members beside it.

If a neighbour is dead, the next member behind it is a neighbour as well. Otherwise a member all of whose neighbours had died would not be
probed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

FULL = 100
"""The greatest number of members of which each has a link to every other."""

RINGS = 3
"""The number of rings: twice as many neighbours."""

MAX_STEPS = 5
"""The greatest number of neighbours in one direction of a ring, dead ones included."""


@lru_cache(maxsize=1 << 16)
def _place(ring: int, name: str) -> bytes:
    return hashlib.sha256(f"{ring}/{name}".encode()).digest()


class Rings:
    """The rings of a set of members.

    Args:
        names: the names of all members.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._orders = [sorted(names, key=partial(_place, ring)) for ring in range(RINGS)]
        self._places = [{name: place for place, name in enumerate(order)} for order in self._orders]

    def neighbours(self, site: str, dead: Callable[[str], bool]) -> frozenset[str]:
        """Return the neighbours of a member.

        Args:
            site: the member, which must be in the set.
            dead: returns whether a member is dead.
        """
        found: set[str] = set()
        for order, places in zip(self._orders, self._places, strict=True):
            for way in (1, -1):
                for step in range(1, min(MAX_STEPS, len(order) - 1) + 1):
                    name = order[(places[site] + way * step) % len(order)]
                    found.add(name)
                    if not dead(name):
                        break
        return frozenset(found)


@lru_cache(maxsize=2)
def _rings(names: frozenset[str]) -> Rings:
    return Rings(names)


def rings_of(names: Iterable[str]) -> Rings | None:
    """Return the rings of the members; `None` if the cloud is small enough for all to be neighbours."""
    members = frozenset(names)
    return _rings(members) if len(members) > FULL else None
