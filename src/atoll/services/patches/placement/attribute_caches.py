"""Names of traits and resource classes, read once instead of in each request.

Each request of Placement has caches of its own of all traits and all resource classes (placement/attribute_cache.py), so a boot reads the
two tables three times. They change only when a client creates, renames or deletes a trait or a resource class. Placement then clears the
cache of that request, after the commit.

With this patch, the caches of all requests share the rows that were last read, and such a change makes all of them read again. Rows are
read in a transaction of their own, which sees all earlier commits. They are kept only if no cache was cleared during the read. This process
would not notice a change by another process, so no other process may use the database.
"""

from __future__ import annotations

import threading
from typing import Any

from placement import attribute_cache, db_api


class Kept:
    """The rows that were last read from a table.

    Attributes:
        generation: the number of changes of the table so far.
        found: the three mappings of a cache; `None` if they have to be read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.generation = 0
        self.found: tuple[Any, Any, Any] | None = None

    def forget(self) -> None:
        """Make the next request read the table."""
        with self._lock:
            self.generation += 1
            self.found = None

    def keep(self, found: tuple[Any, Any, Any], generation: int) -> None:
        """Keep the rows that were read, unless the table has changed since the reading began.

        Args:
            found: the mappings.
            generation: the generation before the reading began.
        """
        with self._lock:
            if generation == self.generation:
                self.found = found


class Shared:
    """A mix-in for upstream's caches, by which the caches of all requests share their rows."""

    _kept: Kept
    _all_cache: dict[str, Any]

    def clear(self) -> None:
        """Forget the rows, also those that other requests share, except at the beginning of a request."""
        if hasattr(self, "_all_cache"):
            self._kept.forget()
        upstream: Any = super()
        upstream.clear()

    def _refresh_from_db(self, _context: Any) -> None:
        """Take the kept rows; read the table if there are none, or if this cache has rows but lacks the requested one."""
        mappings, kept = ("_id_cache", "_str_cache", "_all_cache"), self._kept
        found = kept.found
        if found is None or self._all_cache:
            generation = kept.generation
            upstream: Any = super()
            upstream._refresh_from_db(db_api.DbContext())
            found = tuple(getattr(self, name) for name in mappings)
            kept.keep(found, generation)
        for name, mapping in zip(mappings, found, strict=True):
            setattr(self, name, mapping)


class ResourceClassCache(Shared, attribute_cache.ResourceClassCache):
    """A request's cache of resource classes."""

    _kept = Kept()


class TraitCache(Shared, attribute_cache.TraitCache):
    """A request's cache of traits."""

    _kept = Kept()


def install() -> None:
    """Make the requests of this process share their caches. No other process may use the database."""
    attribute_cache.ResourceClassCache = ResourceClassCache
    attribute_cache.TraitCache = TraitCache
