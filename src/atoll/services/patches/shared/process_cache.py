"""A cache in a service's process, in the place of memcached.

It replaces oslo.cache's own dictionary (oslo_cache/backends/dictionary.py), which is made for tests. In that dictionary, every write
examines all entries, and entries expire only if the configuration of the back end gives a lifetime. Two threads that write and delete
concurrently may raise a KeyError. All readers of a value get the same object, so a change by one reader is seen by the others. In the
cache of this module, the number of entries is bounded, a lock guards them, and values are pickled, as memcached would keep them.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from cachetools import LRUCache
from dogpile.cache import api, register_backend

from atoll.services import invalidation

NAME = "oslo_cache.dict"
"""The name of the back end that it replaces, because oslo.config accepts no other."""

ENTRIES = 8192
"""Maximum number of entries, of about 1 KiB each; dogpile itself discards expired ones."""


class ProcessCache(api.CacheBackend):
    """A dogpile back end with the most recently used entries of one region."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._entries: LRUCache[str, bytes] = LRUCache(arguments.get("entries", ENTRIES))
        self._lock = threading.Lock()
        invalidation.register(self.clear)

    def clear(self) -> None:
        """Drop all entries of the cache."""
        with self._lock:
            self._entries.clear()

    def get(self, key: str) -> Any:
        """Return a copy of a key's value; `NO_VALUE` if it has none."""
        with self._lock:
            data = self._entries.get(key)
        return api.NO_VALUE if data is None else pickle.loads(data)  # noqa: S301 - written by `set`

    def get_multi(self, keys: Iterable[str]) -> list[Any]:
        """Return the values of many keys."""
        return [self.get(key) for key in keys]

    def set(self, key: str, value: Any) -> None:
        """Store a value; if there are too many entries, drop the least recently used one."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._entries[key] = data

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Store the values of many keys."""
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: str) -> None:
        """Drop a key's value, if it has one."""
        with self._lock:
            self._entries.pop(key, None)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Drop the values of many keys."""
        for key in keys:
            self.delete(key)


def install() -> None:
    """Register the back end with dogpile, which would otherwise load every installed back end to find it."""
    register_backend(NAME, __name__, ProcessCache.__name__)  # type: ignore[no-untyped-call]  # has no types
