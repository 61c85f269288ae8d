"""The existing records: those that are not deleted and whose parents exist. From the same records, each site computes the same result.

A record may arrive before its parent does, and a parent may be deleted at one site while a child is created at another. Keystone deletes
the grants of a user with the user, and the users of a domain with the domain. By this rule, children that Keystone could not see at that
time do not exist either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_MAX_GENERATIONS = 64
"""The greatest depth of ancestors; Keystone itself allows six levels of projects."""

Reference = tuple[str, str]
"""The kind and key of a record."""


class References:
    """The records that are not deleted, and their parents."""

    def __init__(self) -> None:
        self._parents: dict[Reference, frozenset[Reference]] = {}
        self._children: dict[Reference, set[Reference]] = {}
        self._existing: set[Reference] = set()

    def __contains__(self, record: Reference) -> bool:
        """Return whether a record exists."""
        return record in self._existing

    def put(self, record: Reference, parents: Iterable[Reference] | None) -> set[Reference]:
        """Record that a record exists or is deleted, and its parents.

        Args:
            record: the record.
            parents: the records that it refers to; `None` if it is deleted.

        Returns:
            The records that began or ceased to exist: this record, and those that refer to it.
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
            if (exists := self._exists(each)) != (each in self._existing):
                changed ^= {each}
                (self._existing.add if exists else self._existing.discard)(each)
                queue.extend(self._children.get(each, ()))
        return changed

    def _exists(self, record: Reference) -> bool:
        """Return whether neither a record nor any of its ancestors is deleted.

        A record that is its own ancestor, as a hostile site may claim, does not exist.
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
