"""Which records are there: those that nobody deleted, and whose parents are there too; pure, and computed alike at every site.

A record may come before its parent does, and a parent may be deleted at one site while a child is made at another. Keystone deletes with
a user its grants, with a domain its users: what it could not see at the time is not there either, by this rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_MAX_GENERATIONS = 64
"""Keystone itself allows six levels of projects."""

Reference = tuple[str, str]
"""Kind and key of a record."""


class References:
    """The records that are not deleted, and what they refer to."""

    def __init__(self) -> None:
        self._parents: dict[Reference, frozenset[Reference]] = {}
        self._children: dict[Reference, set[Reference]] = {}
        self._there: set[Reference] = set()

    def __contains__(self, record: Reference) -> bool:
        """Whether a record is there."""
        return record in self._there

    def put(self, record: Reference, parents: Iterable[Reference] | None) -> set[Reference]:
        """Take note of a record.

        Args:
            record: which one.
            parents: what it refers to; None if it is deleted.

        Returns:
            What is there now and was not, or is no longer: it, and whatever refers to it.
        """
        for parent in self._parents.pop(record, ()):
            self._children[parent].discard(record)
        if parents is not None:
            self._parents[record] = frozenset(parents)
            for parent in self._parents[record]:
                self._children.setdefault(parent, set()).add(record)
        return self._spread(record)

    def _spread(self, record: Reference) -> set[Reference]:
        changed: set[Reference] = set()
        queue = deque([record])
        while queue:
            each = queue.popleft()
            if (there := self._is_there(each)) != (each in self._there):
                changed ^= {each}
                (self._there.add if there else self._there.discard)(each)
                queue.extend(self._children.get(each, ()))
        return changed

    def _is_there(self, record: Reference) -> bool:
        """Whether it and all its ancestors are, generation by generation.

        What is its own ancestor, as a hostile site may claim, is not.
        """
        generation = {record}
        for _ in range(_MAX_GENERATIONS):
            if not generation:
                return True
            found = [self._parents.get(each) for each in generation]
            generation = set()
            for parents in found:
                if parents is None:
                    return False
                generation |= parents
        return False
